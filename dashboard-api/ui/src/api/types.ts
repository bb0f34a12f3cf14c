/** What `/api/v1` says, word for word. A time is an RFC 3339 text in UTC. */
export type Time = string;
export type Priority = 'high' | 'medium' | 'low';

export interface Ward {
  id: string;
  name: string;
  timezone: string;
  patients: number;
  open: { high: number; medium: number; low: number; technical: number };
  unacknowledged_high: number;
}

export interface Session {
  user: string;
  role: 'admin' | 'clinician' | 'analyst';
  expires_at: Time | null;
  installation: string;
  server_time: Time;
  wards: Ward[];
}

export interface Flags {
  late: boolean;
  late_by_s: number | null;
  clock: 'as_sent' | 'corrected' | 'unstamped';
  clock_shift_s: number | null;
  typed: boolean;
  test: boolean;
}

/** One value of one metric, with all that is needed to let it age by itself. */
export interface Reading {
  metric: string;
  value: number;
  text: string;
  unit: string;
  observed_at: Time;
  received_at: Time;
  stale_at: Time;
  silent_at: Time | null;
  previous: { value: number; observed_at: Time } | null;
  device: string;
  breach: { rule: string; priority: Priority; limit: number | null } | null;
  flags: Flags;
}

export interface PatientRow {
  id: string;
  name: string;
  born: string;
  sex: string;
  identifier: string;
  ward: string;
  monitored: boolean;
  paused: boolean;
  values: Record<string, Reading>;
  heard_at: Time | null;
  open_alerts: number;
  worst: Priority | null;
  silent: boolean;
}

export interface Settings {
  limits: Record<string, number>;
  /** 0 is on air, null is unknown. */
  oxygen_l_min: number | null;
  news2_scale: 1 | 2;
  expected_interval_s: Record<string, number>;
}

export interface Sample {
  observed_at: Time;
  value: number;
  flags: Flags;
  device: string;
}

export interface Vitals {
  server_time: Time;
  metric: string;
  unit: string;
  samples: Sample[];
  complete_since: Time | null;
}

export interface Acknowledgement {
  by: string;
  at: Time;
  note: string | null;
  undo_until: Time;
}

export interface Alert {
  id: string;
  /** Without a name: somebody who is no longer registered. */
  patient: { id: string; name: string; born: string; ward: string };
  rule: string;
  rule_name: string;
  priority: Priority;
  technical: boolean;
  test: boolean;
  late: boolean;
  brief: boolean;
  state: 'open' | 'cleared' | 'withdrawn';
  raised_at: Time;
  heard_at: Time;
  since: Time;
  cleared_at: Time | null;
  summary: string;
  evidence: { column: string; text: string; value: number | null }[];
  acknowledged: Acknowledgement | null;
  version: number;
}

export interface AlertDetail extends Alert {
  history: { at: Time; what: string; by: string | null; note: string | null }[];
  notifications: { id: string; kind: string; channel: string; state: string; attempts: number; changed_at: Time; last_error: string | null }[];
  next_page: Time | null;
}

export interface Beat {
  server_time: Time;
  seq: number;
  follower_lag_ms: number;
  engine_clock: Time | null;
  canary_at: Time | null;
  session_expires_at: Time | null;
  build: string;
}

export interface Snapshot {
  epoch: string;
  seq: number;
  server_time: Time;
  build: string;
  session_expires_at: Time | null;
  wards: Ward[];
  patients: PatientRow[];
  alerts: Alert[];
  beat: Beat;
}

/** Only what changed; a value of `null` was voided and nothing stands in its place. */
export type PatientChange = Pick<PatientRow, 'id'> & Partial<Omit<PatientRow, 'id' | 'values'>> & { values?: Record<string, Reading | null> };

export interface Delta {
  seq: number;
  server_time: Time;
  patients: PatientChange[];
  alerts: Alert[];
  wards?: Ward[];
}

export type StreamEvent = { type: 'snapshot'; data: Snapshot } | { type: 'delta'; data: Delta } | { type: 'beat'; data: Beat };
