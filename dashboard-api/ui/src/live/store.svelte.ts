import { SvelteMap } from 'svelte/reactivity';
import type { Alert, Beat, Delta, PatientDelta, PatientRow, Reading, Snapshot, Ward } from '../api/types';
import { compareAlerts, unacknowledged } from './order';

/** One patient, field by field, so that a new value touches its own cell and nothing else. */
export class Patient {
  readonly id: string;
  readonly values = new SvelteMap<string, Reading>();
  name = $state('');
  born = $state('');
  sex = $state('');
  identifier = $state('');
  ward = $state('');
  monitored = $state(true);
  paused = $state(false);
  heardAt = $state<string | null>(null);
  silent = $state(false);
  /** Open, or waiting for somebody; the most urgent first. */
  alerts = $state.raw<readonly Alert[]>([]);
  /** No longer among the patients of this stream; its row stays until the list is reordered. */
  gone = $state(false);

  constructor(id: string) {
    this.id = id;
  }

  /** Who it is: only a snapshot says so. */
  is(row: PatientRow): void {
    this.name = row.name;
    this.born = row.born;
    this.sex = row.sex;
    this.identifier = row.identifier;
    this.ward = row.ward;
  }

  change(to: Pick<PatientDelta, 'monitored' | 'paused' | 'silent' | 'heard_at' | 'values'>): void {
    this.monitored = to.monitored;
    this.paused = to.paused;
    this.silent = to.silent;
    this.heardAt = to.heard_at;
    for (const [metric, reading] of Object.entries(to.values)) {
      if (reading === null) this.values.delete(metric);
      else this.values.set(metric, reading);
    }
  }

  row(): PatientRow {
    const { id, name, born, sex, identifier, ward, monitored, paused, silent } = this;
    const values = Object.fromEntries(this.values);
    return { id, name, born, sex, identifier, ward, monitored, paused, silent, values, heard_at: this.heardAt, open_alerts: this.alerts.length, worst: this.alerts[0]?.priority ?? null };
  }
}

/** Everything the stream has told, in memory only. */
export class Store {
  readonly patients = new SvelteMap<string, Patient>();
  readonly alerts = new SvelteMap<string, Alert>();
  wards = $state.raw<readonly Ward[]>([]);
  beat = $state.raw<Beat | null>(null);
  /** Whether a snapshot has come: before it, nothing may be called empty. */
  filled = $state(false);

  snapshot(snapshot: Snapshot): void {
    const here = new Set<string>();
    for (const row of snapshot.patients) {
      here.add(row.id);
      const patient = this.#patient(row.id);
      patient.gone = false;
      for (const metric of patient.values.keys()) if (!(metric in row.values)) patient.values.delete(metric);
      patient.is(row);
      patient.change(row);
    }
    for (const patient of this.patients.values()) if (!here.has(patient.id)) patient.gone = true;
    const current = new Set(snapshot.alerts.map(({ id }) => id));
    for (const id of this.alerts.keys()) if (!current.has(id)) this.alerts.delete(id);
    for (const alert of snapshot.alerts) this.alerts.set(alert.id, alert);
    this.#sortAlerts(new Set(this.patients.keys()));
    this.wards = snapshot.wards;
    this.beat = snapshot.beat;
    this.filled = true;
  }

  delta(delta: Delta): void {
    for (const change of delta.patients) this.#patient(change.id).change(change);
    this.putAlerts(delta.alerts);
    if (delta.wards) this.wards = delta.wards;
  }

  /** Takes what the server said about alerts, whichever way it came; an older version never wins. */
  putAlerts(alerts: readonly Alert[]): void {
    const touched = new Set<string>();
    for (const alert of alerts) {
      const known = this.alerts.get(alert.id);
      if (known && known.version > alert.version) continue;
      this.alerts.set(alert.id, alert);
      touched.add(alert.patient.id);
    }
    this.#sortAlerts(touched);
  }

  /** Lets go of patients that are gone. Only for a moment when rows may move. */
  forgetGone(): void {
    for (const patient of this.patients.values()) if (patient.gone) this.patients.delete(patient.id);
  }

  /** What a new tab needs to stand where this one does. */
  asSnapshot(seq: number, beat: Beat): Snapshot {
    return {
      epoch: '',
      seq,
      server_time: beat.server_time,
      build: beat.build,
      session_expires_at: beat.session_expires_at,
      wards: [...this.wards],
      patients: [...this.patients.values()].filter(({ gone }) => !gone).map((patient) => patient.row()),
      alerts: [...this.alerts.values()],
      beat,
    };
  }

  clear(): void {
    this.patients.clear();
    this.alerts.clear();
    this.wards = [];
    this.beat = null;
    this.filled = false;
  }

  #patient(id: string): Patient {
    let patient = this.patients.get(id);
    if (!patient) {
      patient = new Patient(id);
      this.patients.set(id, patient);
    }
    return patient;
  }

  #sortAlerts(patients: ReadonlySet<string>): void {
    const sorted = new Map<string, Alert[]>();
    for (const alert of this.alerts.values()) {
      if (!patients.has(alert.patient.id) || (alert.state !== 'open' && !unacknowledged(alert))) continue;
      const list = sorted.get(alert.patient.id) ?? [];
      list.push(alert);
      sorted.set(alert.patient.id, list);
    }
    for (const id of patients) {
      const patient = this.patients.get(id);
      if (patient) patient.alerts = (sorted.get(id) ?? []).sort(compareAlerts);
    }
  }
}
