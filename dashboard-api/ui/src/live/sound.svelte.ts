import { keep, kept } from '../preferences';

/** While somebody waits, it is repeated this often. It claims to be no medical alarm sound. */
const REPEAT_MS = 30_000;
const LOCK = 'vigil-sound';
const PULSES = [0, 0.25, 0.5];
const PULSE_S = 0.16;
const PITCH_HZ = 660;

/** Browsers forbid sound until somebody has touched the page; then it is wanted and blocked, and the page says so. */
export const sound = $state<{ is: 'off' | 'on' | 'blocked' }>({ is: 'off' });

let context: AudioContext | null = null;
let release: (() => void) | null = null;
let rangAt = -REPEAT_MS;

export function startSound(): void {
  if (kept('sound') === 'on') want();
  for (const gesture of ['pointerdown', 'keydown'] as const) {
    addEventListener(gesture, () => sound.is === 'blocked' && void context?.resume(), { capture: true });
  }
}

/** What was blocked is let through by the very press that asks for it. */
export function switchSound(): void {
  if (sound.is === 'on') {
    keep('sound', 'off');
    release?.();
    void context?.close();
    context = null;
    sound.is = 'off';
    return;
  }
  keep('sound', 'on');
  want();
  void context?.resume();
}

/** Once a second: whether somebody waits. */
export function soundWhile(waiting: boolean): void {
  if (waiting && performance.now() - rangAt > REPEAT_MS) ring();
}

export function ring(): void {
  // Only the tab that holds the lock is heard: seven tabs are one ward.
  if (!context || context.state !== 'running' || !release) return;
  rangAt = performance.now();
  for (const pulse of PULSES) {
    const start = context.currentTime + pulse;
    const tone = new OscillatorNode(context, { type: 'triangle', frequency: PITCH_HZ });
    const volume = new GainNode(context, { gain: 0 });
    volume.gain.setTargetAtTime(0.5, start, 0.01);
    volume.gain.setTargetAtTime(0, start + PULSE_S - 0.04, 0.01);
    tone.connect(volume).connect(context.destination);
    tone.start(start);
    tone.stop(start + PULSE_S);
  }
}

function want(): void {
  if (!context) {
    context = new AudioContext();
    context.onstatechange = settle;
  }
  settle();
}

function settle(): void {
  if (!context) return;
  sound.is = context.state === 'running' ? 'on' : 'blocked';
  if (sound.is === 'on' && !release) void hold(context);
}

/** Holds the browser's one voice for as long as this context lives. */
async function hold(mine: AudioContext): Promise<void> {
  const turn = async () => {
    if (context !== mine) return;
    await new Promise<void>((done) => (release = done));
    release = null;
  };
  if ('locks' in navigator) await navigator.locks.request(LOCK, turn);
  else await turn();
}
