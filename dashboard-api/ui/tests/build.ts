import type { Alert, Beat, Delta, PatientDelta, PatientRow, Reading, Snapshot } from '../src/api/types';

/** Things as the server sends them, each with only what a test is about spelt out. */
export const NOON = Date.parse('2026-07-14T12:00:00Z');
export const MIN = 60_000;
export const iso = (ms: number) => new Date(ms).toISOString();

export function reading(change: Partial<Reading> = {}): Reading {
  return {
    metric: 'spo2',
    value: 96,
    text: '96',
    unit: '%',
    observed_at: iso(NOON),
    received_at: iso(NOON + 1000),
    stale_at: iso(NOON + 10 * MIN),
    silent_at: null,
    previous: null,
    device: 'ox-1',
    breach: null,
    flags: { late: false, late_by_s: null, clock: 'as_sent', clock_shift_s: null, typed: false, test: false },
    ...change,
  };
}

export function row(id: string, change: Partial<PatientRow> = {}): PatientRow {
  return {
    id,
    name: id.toUpperCase(),
    born: '1945-07-14',
    sex: 'female',
    identifier: '123 456 7890',
    ward: 'w7',
    monitored: true,
    paused: false,
    values: { spo2: reading() },
    heard_at: iso(NOON),
    open_alerts: 0,
    worst: null,
    silent: false,
    ...change,
  };
}

/** A change of a patient, as it comes when only `change` is new. */
export function patientDelta(id: string, change: Partial<PatientDelta> = {}): PatientDelta {
  return { id, values: {}, heard_at: iso(NOON), open_alerts: 0, worst: null, silent: false, monitored: true, paused: false, ...change };
}

export function alert(id: string, patient: string, change: Partial<Alert> = {}): Alert {
  return {
    id,
    patient: { id: patient, name: patient.toUpperCase(), born: '1945-07-14', ward: 'w7' },
    rule: 'spo2-low',
    rule_name: 'Low oxygen saturation',
    priority: 'high',
    technical: false,
    test: false,
    late: false,
    brief: false,
    state: 'open',
    raised_at: iso(NOON),
    heard_at: iso(NOON),
    since: iso(NOON),
    cleared_at: null,
    summary: 'SpO₂ 84 %, limit 90, for 4 min',
    evidence: [],
    acknowledged: null,
    version: 1,
    partition: 0,
    ...change,
  };
}

export const acknowledged = { by: 'Kaya', at: iso(NOON), note: null, undo_until: iso(NOON + 10_000) };

export function beat(seq: number, change: Partial<Beat> = {}): Beat {
  return {
    server_time: iso(NOON),
    seq,
    follower_lag_ms: 100,
    engine_clock: iso(NOON),
    canary_at: iso(NOON),
    session_expires_at: iso(NOON + 60 * MIN),
    build: 'b1',
    ...change,
  };
}

export function snapshot(patients: PatientRow[], alerts: Alert[] = [], seq = 0): Snapshot {
  return { epoch: 'e1', seq, server_time: iso(NOON), build: 'b1', session_expires_at: iso(NOON + 60 * MIN), wards: [], patients, alerts, beat: beat(seq) };
}

export function delta(seq: number, change: Partial<Delta> = {}): Delta {
  return { seq, server_time: iso(NOON), patients: [], alerts: [], ...change };
}
