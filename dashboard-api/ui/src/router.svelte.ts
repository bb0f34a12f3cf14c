import { parse, type Route } from './routes';

interface Place {
  at: Route;
  /** Path and query. */
  path: string;
  query: URLSearchParams;
}

function here(): Place {
  return { at: parse(location.pathname), path: location.pathname + location.search, query: new URLSearchParams(location.search) };
}

let place = $state.raw<Place>(here());

export const route = {
  get at() {
    return place.at;
  },
  get path() {
    return place.path;
  },
  get query() {
    return place.query;
  },
};

export function navigate(path: string, { replace = false } = {}): void {
  if (replace) history.replaceState(null, '', path);
  else history.pushState(null, '', path);
  place = here();
}

/** Sets or, with null, removes one word of the query, so that a filter survives a reload and can be sent to a colleague. */
export function setQuery(name: string, value: string | null): void {
  navigate(withQuery(name, value), { replace: true });
}

export function withQuery(name: string, value: string | null): string {
  const query = new URLSearchParams(route.query);
  if (value === null) query.delete(name);
  else query.set(name, value);
  const text = query.toString();
  return location.pathname + (text ? `?${text}` : '');
}

addEventListener('popstate', () => (place = here()));

/** Links of the page stay in the page; all others, and clicks that ask for a new tab, are the browser's. */
document.addEventListener('click', (event) => {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest('a') : null;
  if (!link || link.origin !== location.origin || link.target || link.hasAttribute('download')) return;
  event.preventDefault();
  if (link.pathname + link.search !== route.path) navigate(link.pathname + link.search);
});
