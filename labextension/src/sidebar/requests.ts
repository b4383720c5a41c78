/** What the side panel asks of the Jupyter server's extension of ours. */
import { ServerConnection } from '@jupyterlab/services';

import { IRow, rowOf } from '../rows';

/** What a list is narrowed to; empty asks for nothing. */
export interface IFilters {
  query: string;
  outcome: string;
  model: string;
  tag: string;
  notebook: string;
  since: string;
}

/** A part of a list, and where the next one begins. */
export interface IPage {
  rows: IRow[];
  cursor: string | null;
}

/** A `%%stream` cell, and what of the request it does not hold. */
export interface ICell {
  source: string;
  missing: string[];
}

/** The store, as a page reaches it. Every method rejects with a `Refusal`. */
export interface ILibrary {
  list(filters: IFilters, limit: number, cursor?: string): Promise<IPage>;
  get(id: string): Promise<Record<string, unknown>>;
  cell(id: string): Promise<ICell>;
  remove(id: string): Promise<void>;
  models(): Promise<string[]>;
}

/** Why there is no answer. `missing`: the server knows no such address, so it has no extension of ours. */
export class Refusal extends Error {
  constructor(
    message: string,
    readonly hint = '',
    readonly missing = false
  ) {
    super(message);
  }
}

/** The store behind a server. */
export function libraryOf(settings: ServerConnection.ISettings): ILibrary {
  const ask = async (
    path: string,
    method = 'GET'
  ): Promise<Record<string, unknown>> => {
    const base = settings.baseUrl.replace(/\/*$/, '/');
    let response: Response;
    try {
      response = await ServerConnection.makeRequest(
        `${base}tokenstream/api/${path}`,
        { method },
        settings
      );
    } catch {
      throw new Refusal('');
    }
    let answer: unknown;
    try {
      answer = await response.json();
    } catch {
      answer = null;
    }
    const said = (answer && typeof answer === 'object' ? answer : {}) as Record<
      string,
      unknown
    >;
    if (!response.ok) {
      const ours = typeof said.hint === 'string';
      throw new Refusal(
        ours ? String(said.message) : response.statusText,
        ours ? String(said.hint) : '',
        response.status === 404 && !ours
      );
    }
    return said;
  };

  return {
    list: async (filters, limit, cursor) => {
      const given = Object.entries({ ...filters, cursor: cursor ?? '' });
      const query = new URLSearchParams(given.filter(([, value]) => value));
      query.set('limit', String(limit));
      const page = await ask(`transcripts?${query.toString()}`);
      const rows = Array.isArray(page.transcripts) ? page.transcripts : [];
      return {
        rows: rows.map(rowOf).filter(row => row.id),
        cursor: typeof page.cursor === 'string' ? page.cursor : null
      };
    },
    get: id => ask(`transcripts/${id}`),
    cell: async id => {
      const { source, missing } = await ask(`transcripts/${id}/cell`);
      return {
        source: typeof source === 'string' ? source : '',
        missing: Array.isArray(missing) ? missing.map(String) : []
      };
    },
    remove: async id => {
      await ask(`transcripts/${id}`, 'DELETE');
    },
    models: async () => {
      const { models } = await ask('models');
      return Array.isArray(models) ? models.map(String) : [];
    }
  };
}
