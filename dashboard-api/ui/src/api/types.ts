/**
 * What `/api/v1` says: the schemas of `dashboard-api/openapi.json`, under the names that the page uses. `npm run types` writes them into
 * `.types/`, which `npm run check` does first. Written by hand is only what the document cannot say.
 */
import type { components } from '../../.types/openapi';

type Schemas = components['schemas'];

export type Priority = Schemas['Priority'];
export type Ward = Schemas['Ward'];
export type Session = Schemas['Session'];
export type Flags = Schemas['Flags'];
/** One value of one metric, with all that is needed to let it age by itself. */
export type Reading = Schemas['Reading'];
export type PatientRow = Schemas['PatientRow'];
export type Settings = Schemas['Settings'];
export type Vitals = Schemas['Vitals'];
export type Acknowledged = Schemas['Acknowledged'];
/** Its patient without a name: somebody who is no longer registered. */
export type Alert = Schemas['Alert'];
export type AlertDetail = Schemas['AlertDetail'];
export type Beat = Schemas['Beat'];
export type Snapshot = Schemas['Snapshot'];
export type Delta = Schemas['Delta'];
/** Who a patient is changes only with a snapshot. */
export type PatientDelta = Schemas['PatientDelta'];

/** A refusal. `acknowledged` is there when somebody was first; the document says of such members only that they exist. */
export type Refusal = Schemas['Problem'] & { acknowledged?: Acknowledged };

/** The document gives the stream as text; which event carries which schema stands in its words. */
export type StreamEvent = { type: 'snapshot'; data: Snapshot } | { type: 'delta'; data: Delta } | { type: 'beat'; data: Beat };
