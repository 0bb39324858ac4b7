/** Where the API token is kept: this tab's session storage, nowhere else. */

const KEY = "gero.token";

/** Return the token of this tab's session, or "" if there is none. */
export function loadToken(): string {
  return sessionStorage.getItem(KEY) ?? "";
}

/** Keep the token for this tab's session; "" forgets it. */
export function saveToken(token: string): void {
  if (token) sessionStorage.setItem(KEY, token);
  else sessionStorage.removeItem(KEY);
}

/**
 * Return the token of a `#token=...` fragment, or undefined if the address has none.
 *
 * The fragment is removed from the address bar and from the history, where it could be read
 * or shared later.
 */
export function takeTokenFromAddress(): string | undefined {
  const { hash, pathname, search } = window.location;
  const token = new URLSearchParams(hash.slice(1)).get("token")?.trim();
  if (token === undefined) return undefined;
  window.history.replaceState(null, "", pathname + search);
  return token;
}
