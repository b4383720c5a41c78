/** Which addresses of a model's text a reader may follow, and how they are named. */

const SCHEMES = ['http:', 'https:', 'mailto:'];
const LONGEST = 2048;

/** What is known of an address that may be followed. */
export interface IAddress {
  href: string;
  /** The host, in the ASCII form that cannot pass for another; for mail, the address. */
  host: string;
}

/**
 * The address, if it may be followed: http, https or mailto, to a host with a public name. A cookie of the notebook
 * server goes to every port of its host, and a click must not carry it to one that a model chose.
 */
export function address(text: string): IAddress | null {
  // eslint-disable-next-line no-control-regex
  if (text.length > LONGEST || /[\u0000-\u0020\u007f]/.test(text)) {
    return null;
  }
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return null;
  }
  if (!SCHEMES.includes(url.protocol)) {
    return null;
  }
  if (url.protocol === 'mailto:') {
    return { href: url.href, host: decoded(url.pathname) };
  }
  if (!url.host || isNear(url.hostname)) {
    return null;
  }
  return { href: url.href, host: url.host };
}

/** Whether the words of a link already say where it goes. */
export function saysWhere(words: string, to: IAddress): boolean {
  if (/^[a-z]+:\/\/[^/?#]*@/i.test(to.href)) {
    return false; // a user name that looks like a host
  }
  const said = words.trim().toLowerCase();
  const href = to.href.toLowerCase();
  const bare = href.replace(/^(https?:\/\/|mailto:)/, '');
  return [href, bare, to.host.toLowerCase()].some(
    known => said === known || said + '/' === known
  );
}

/** Whether a host is, or may be, of this machine or its network: it has no public name. */
function isNear(name: string): boolean {
  const host = name.toLowerCase().replace(/\.$/, '');
  if (host.startsWith('[')) {
    return true;
  }
  if (/^(.*\.)?(localhost|local|internal|home\.arpa)$/.test(host)) {
    return true;
  }
  if (!host.includes('.')) {
    return true; // a name of this network
  }
  return /^\d+\.\d+\.\d+\.\d+$/.test(host); // numbers tell a reader nothing
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
