/** Every word the page says. A second language is a second file of the same shape. */
import type { Priority } from '../api/types';
import type { Liveness } from '../live/liveness';
import type { Mark } from '../live/reading';
import { age, elapsed } from '../time/elapsed';

const NBSP = '\u00a0';

const LIMIT_WORDS: Record<string, string> = { late: 'LATE', clock: 'CLOCK', unstamped: 'NO CLOCK', typed: 'TYPED', test: 'TEST' };

export const m = {
  product: 'Vigil',

  priority: { high: 'HIGH', medium: 'MEDIUM', low: 'LOW', technical: 'TECHNICAL' } satisfies Record<Priority | 'technical', string>,

  // liveness
  liveness(state: Liveness): string {
    switch (state.kind) {
      case 'connecting':
        return 'Connecting…';
      case 'not-live':
        return 'NOT LIVE';
      case 'stopped':
        return 'EVALUATION STOPPED';
      case 'behind':
        return `${elapsed(state.seconds * 1000)} behind`;
      case 'live':
        return `LIVE ${state.seconds}${NBSP}s`;
    }
  },
  notLive: (asOf: string | null) => (asOf ? `All values are as of ${asOf}. Nothing can be sent: use the phone.` : 'Nothing was heard from Vigil yet. Use the phone.'),
  notLiveSpoken: 'Not live. The page no longer hears Vigil. Values are old and nothing can be sent.',
  stopped: (since: string, atLeast: boolean) => `No rule is being evaluated ${atLeast ? 'since before' : 'since'} ${since}. No alert will come: watch the patients yourself.`,
  stoppedSpoken: 'Evaluation stopped. Vigil shows values, but no alert will come.',
  liveAgain: 'Live again.',
  asOf: (time: string) => `as of ${time}`,
  titleNotLive: 'NOT LIVE',
  titleStopped: 'EVALUATION STOPPED',
  title: (high: number, where: string) => `${high > 0 ? `${high} HIGH · ` : ''}${where} · Vigil`,

  // a reading
  age: (ms: number) => age(ms),
  elapsed: (ms: number) => elapsed(ms),
  stale: (ms: number) => `STALE ${age(ms)}`,
  staleAlone: 'STALE',
  silent: (ms: number) => `SILENT ${elapsed(ms)}`,
  silentAlone: 'SILENT',
  notMeasured: 'not measured',
  ageUnknown: 'age unknown',
  mark(mark: Mark): string {
    const word = LIMIT_WORDS[mark.kind] ?? mark.kind;
    if (mark.kind === 'late' && mark.by !== null) return `${word} ${elapsed(mark.by)}`;
    if (mark.kind === 'clock' && mark.shift !== null) return `${word} ${mark.shift > 0 ? '+' : ''}${elapsed(mark.shift)}`;
    return word;
  },
  limit: (limit: number | null) => (limit === null ? 'out of range' : `limit ${limit}`),
  halfPair: { systolic_pressure: 'systolic only', diastolic_pressure: 'diastolic only' } as Record<string, string>,
  previous: (text: string, ms: number) => `before: ${text}, ${age(ms) === 'now' ? 'just now' : `${elapsed(ms)} ago`}`,

  // shell
  skip: 'Skip to the list',
  wards: 'Wards',
  ward: 'Ward',
  allWards: 'All wards',
  alerts: 'Alerts',
  more: 'More',
  sound: { off: 'Sound OFF', on: 'Sound ON', blocked: 'Sound BLOCKED' },
  counts: (high: number, unacknowledged: number) => (high > 0 ? `(${unacknowledged} unacknowledged)` : ''),
  openAlerts: 'Open alerts',
  timesIn: (zone: string) => `Times in ${zone}`,
  skew: (ms: number) => `This computer's clock is ${elapsed(Math.abs(ms))} ${ms > 0 ? 'ahead' : 'behind'}; Vigil does not use it`,
  outdated: 'Vigil was updated: reload',
  signOut: 'Sign out',
  signOutFailed: 'Not signed out: Vigil did not answer. Try again, or close the browser.',
  navigation: 'Screens',

  // alarm strip
  strip: 'Unacknowledged high alerts',
  stripEmpty: 'No unacknowledged HIGH alert',
  stripUnknown: 'Alerts unknown',
  stripStopped: 'Alerts unknown: nothing is evaluated',
  unacknowledged: 'unacknowledged',
  open: 'Open',
  openAlert: (name: string) => `Open the alert of ${name}`,
  andMore: (count: number) => `and ${count} more`,
  newHigh: (name: string, summary: string) => `High alert. ${name}. ${summary}`,

  // ward list
  wardList: (ward: string) => `Patients, ${ward}`,
  show: 'Show',
  sort: 'Sort',
  find: 'Find',
  findHint: 'Name or ID',
  findClear: 'Clear',
  shows: {
    all: (n: number) => `All (${n})`,
    needs: (n: number) => `With alerts (${n})`,
    silent: (n: number) => `Silent (${n})`,
    paused: (n: number) => `Paused or not monitored (${n})`,
  },
  sorts: { needs: 'Needs you first', name: 'Name', heard: 'Longest unheard' },
  showing: (shown: number, all: number) => (shown === all ? `Showing all ${all}` : `Showing ${shown} of ${all}`),
  held: 'Order held',
  inOrder: 'In order',
  reorder: (count: number) => `${count} to reorder`,
  columns: { alert: 'Alert', patient: 'Patient', heard: 'Heard', acknowledged: 'Acknowledged' },
  born: (date: string) => `Born ${date}`,
  bornUnknown: 'Born: unknown',
  years: (years: number) => `(${years} y)`,
  identifier: (id: string) => `ID ${id}`,
  paused: 'PAUSED',
  notMonitored: 'NOT MONITORED',
  gone: 'no longer in this list',
  takenBy: (by: string) => `acknowledged ${by}`,
  patientName: (name: string) => name || 'Patient no longer registered',
  neverHeard: 'never heard',
  moreAlerts: (count: number) => `+${count}`,
  noPatients: (ward: string, time: string) => `No patient is enrolled in ${ward}, as of ${time}.`,
  noneShown: (show: string, ward: string, time: string) => `Nobody in ${ward} matches “${show}”, as of ${time}.`,
  noneFound: (ward: string) => `Nobody in ${ward} matches what you typed.`,
  loading: 'Loading…',
  loadingFailed: 'Vigil does not answer. What you see is nothing, not “no patients”.',

  // alert inbox
  inbox: 'Alerts',
  inboxTabs: {
    unacknowledged: 'Unacknowledged',
    open: 'Open',
    technical: 'Technical',
    brief: 'Brief',
    all: 'All of 24 h',
  },
  noAlerts: (tab: string, where: string, time: string) => `No alert under “${tab}” in ${where}, as of ${time}.`,
  since: (time: string) => `since ${time}`,
  heardAt: (time: string) => `heard ${time}`,
  cleared: (time: string) => `cleared ${time}`,
  withdrawn: 'withdrawn',
  brief: 'BRIEF',
  late: 'LATE',
  test: 'TEST',
  stateOpen: 'open',
  notAcknowledged: 'not acknowledged',
  acknowledgedBy: (by: string, time: string) => `Acknowledged by ${by} ${time}`,
  note: (note: string) => `“${note}”`,

  // one alert
  close: 'Close',
  back: 'Back to the list',
  acknowledgeWhom: (name: string) => `Acknowledge ${name}`,
  acknowledgeWhat: (priority: string, rule: string, name: string) => `Acknowledge ${priority} “${rule}” of ${name}`,
  acknowledgeMeans: 'You take this on: Vigil stops paging for it. The alert ends when its rule clears.',
  noteLabel: 'Note (optional)',
  send: 'Send acknowledgement',
  cancel: 'Cancel',
  sending: 'Sending…',
  notSent: 'Not sent, still paging',
  noAnswer: 'Vigil did not answer. Try again, or use the phone. If it did arrive after all, it will show here.',
  cannotSend: 'Not live: nothing can be sent. Use the phone.',
  alertChanged: 'The alert changed while you looked. Read it again, then send again.',
  firstWas: 'Somebody was first',
  undo: (seconds: number) => `Undo (${seconds}${NBSP}s)`,
  undoing: 'Undoing…',
  undoFailed: 'Not undone, still acknowledged',
  undone: 'Undone: unacknowledged again, and it pages again.',
  evidence: 'Why',
  history: 'History',
  noHistory: 'Nothing yet.',
  pages: 'Pages sent',
  noPages: 'No page was sent yet.',
  nextPage: (time: string) => `Next page ${time}`,
  attempts: (count: number) => (count === 1 ? '1 attempt' : `${count} attempts`),
  openPatient: 'Open patient',
  what: { column: 'Measured', value: 'Value', when: 'When', event: 'What', who: 'Who', channel: 'Channel', state: 'State' },
  alertUnknown: 'This alert is not here',
  alertUnknownDetail: 'It may belong to a ward that you do not see, or have ended long ago.',

  // patient
  latest: 'Latest values',
  samples: 'Samples',
  metric: 'Metric',
  range: 'Range',
  ranges: { '4h': '4 h', '24h': '24 h', '3d': '3 d', '14d': '14 d' },
  noOpenAlerts: (time: string) => `No open alert, as of ${time}.`,
  noSamples: (metric: string, range: string) => `${metric} was not measured in the last ${range}.`,
  incomplete: (time: string) => `Older than ${time} is not shown here.`,
  samplesAsOf: (time: string) => `as of ${time}`,
  refresh: 'Refresh',
  device: 'Device',
  measured: 'Measured',
  ago: 'Age',
  marks: 'Marks',
  noMarks: 'none',
  patientUnknown: 'This patient is not here',
  patientUnknownDetail: 'The patient may be in a ward that you do not see, or no longer be monitored.',
  oxygen: (litres: number) => (litres === 0 ? 'On air' : `O₂ ${litres}${NBSP}L/min`),
  scale: (scale: number) => `SpO₂ scale ${scale}`,
  sex: (sex: string) => (sex === '' ? 'Sex: unknown' : sex.charAt(0).toUpperCase() + sex.slice(1)),

  // sign-in
  signInTitle: 'Sign in to Vigil',
  name: 'Name',
  password: 'Password',
  signIn: 'Sign in',
  signingIn: 'Signing in…',
  byLink: 'Signing in with your link…',
  linkFailed: 'The link did not work',
  linkRemedy: 'It works once, and not for long. Ask for a new one, or sign in with your password.',
  signInFailed: 'Not signed in',
  wrongPassword: 'Name or password is wrong.',
  noServer: 'Vigil does not answer. Try again; if it lasts, use the phone.',
  tryAgain: 'Try again',

  // errors
  failed: 'That did not work',
  requestId: (id: string) => `Request ${id}`,
  noPatientsForYou: 'Your role sees no patients',
  noPatientsForYouDetail: 'You are signed in as an analyst. Ask an administrator for the role “clinician” if you look after patients.',
  unknownPage: 'There is no such page',
  unknownPageDetail: 'The address may be mistyped.',

  // keys and preferences
  helpTitle: 'Keys and settings',
  keysOn: 'Single-key shortcuts',
  keysScope: 'They work while the list or a panel has focus. ↑, ↓, Enter and Esc always work.',
  keyList: [
    ['j  k  or  ↓  ↑', 'Next, previous row'],
    ['Enter', 'Open the row; send in a panel'],
    ['Esc', 'Close the panel'],
    ['/', 'Find a patient'],
    ['r', 'Reorder the list'],
    ['a', 'Acknowledge (alerts)'],
    ['g  w', 'Go to the ward list'],
    ['g  a', 'Go to the alerts'],
    ['?', 'This list'],
  ] as const,
  theme: 'Colours',
  themes: { system: 'As the computer', light: 'Light', night: 'Night' },
  signedInAs: (user: string, installation: string) => `${user}, ${installation}`,
};
