import { drafts } from './drafts';
import { api, Problem, whenSignedOut } from './api/http';
import type { Session, Ward } from './api/types';
import { live } from './live/live.svelte';
import { navigate, route } from './router.svelte';
import { paths } from './routes';

export const session = $state<{ is: 'unknown' | 'out' | 'in'; of: Session | null; trouble: Problem | null }>({ is: 'unknown', of: null, trouble: null });

/** Where to go on after signing in. In memory only. */
let wanted: string | null = null;

export async function findSession(): Promise<void> {
  whenSignedOut(signedOut);
  session.trouble = null;
  try {
    const found = await api<Session>('/session');
    if (session.is === 'unknown') enter(found);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    // A one-time link may have signed in while we asked.
    if (session.is !== 'unknown') return;
    if (problem.status === 401) signedOut();
    else session.trouble = problem;
  }
}

export async function signIn(name: string, password: string): Promise<void> {
  enter(await api<Session>('/session', { method: 'POST', body: { name, password } }));
}

export async function signInByLink(token: string): Promise<void> {
  enter(await api<Session>('/session/link', { method: 'POST', body: { token } }));
}

export async function signOut(): Promise<void> {
  try {
    await api('/session', { method: 'DELETE' });
  } catch (problem) {
    // Whom the server no longer knows is signed out already.
    if (!(problem instanceof Problem && problem.status === 401)) throw problem;
  }
  live.signOut();
  // What one wrote the next must not send.
  drafts.clear();
  wanted = null;
  signedOut();
}

/** The wards this user sees, with their counts as the stream last gave them. */
export function wards(): readonly Ward[] {
  return live.store.filled ? live.store.wards : (session.of?.wards ?? []);
}

export function seesPatients(): boolean {
  return session.of !== null && session.of.role !== 'analyst';
}

function enter(entered: Session): void {
  session.of = entered;
  session.is = 'in';
  if (seesPatients()) live.start(signedOut);
  if (route.at.screen === 'sign-in') navigate(wanted ?? paths.wards(), { replace: true });
}

function signedOut(): void {
  live.stop();
  session.of = null;
  session.is = 'out';
  if (route.at.screen === 'sign-in') return;
  wanted = route.path;
  navigate(paths.signIn(), { replace: true });
}
