/**
 * Drives a running Vigil in Debian's Chromium:
 *
 *   npm run e2e -- <base-url> <one-time-token> [<second user's token>]
 *
 * E2E_NAME and E2E_PASSWORD: also sign in by keyboard. VIGIL_PID: also stop and continue the server. CHROMIUM: the browser's path.
 * SHOTS: a folder for screenshots.
 */
import { Bench } from './bench.mjs';
import { accessibility } from './accessibility.mjs';
import { acknowledgement } from './acknowledgement.mjs';
import { phone } from './phone.mjs';
import { signIn } from './sign-in.mjs';
import { streams } from './streams.mjs';
import { wardList } from './ward-list.mjs';

const [base, ...tokens] = process.argv.slice(2);
if (!base || tokens.length === 0) {
  console.error('usage: npm run e2e -- <base-url> <one-time-token> [<second token>]');
  process.exit(2);
}

await Bench.run(base, tokens, async (bench) => {
  await signIn(bench);
  for (const part of [wardList, acknowledgement, phone, accessibility, streams]) if (bench.states.has(0)) await part(bench);
});
