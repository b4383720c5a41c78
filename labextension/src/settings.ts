/** What the reader chose in JupyterLab's settings; the views read it when they are made. */
import type { ISettingRegistry } from '@jupyterlab/settingregistry';
import { Signal } from '@lumino/signaling';

/** The settings of `schema/plugin.json`, with its defaults. */
export const settings = {
  proseCells: true,
  timeline: true,
  reasoningOpen: false,
  maths: true
};

/** Emitted when the reader changed one. */
export const settingsChanged = new Signal<typeof settings, void>(settings);

/** Takes over what the registry knows, now and whenever it changes. */
export async function loadSettings(
  registry: ISettingRegistry,
  id: string
): Promise<void> {
  const loaded = await registry.load(id);
  const take = () => {
    for (const name of Object.keys(settings) as (keyof typeof settings)[]) {
      const value = loaded.get(name).composite;
      if (typeof value === 'boolean') {
        settings[name] = value;
      }
    }
    document.body.classList.toggle('ts-withoutTimeline', !settings.timeline);
    settingsChanged.emit();
  };
  loaded.changed.connect(take);
  take();
}
