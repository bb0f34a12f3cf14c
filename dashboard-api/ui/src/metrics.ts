/** The order in which a nurse reads; `label` stands in for the server's when a column has room for little. */
interface Column {
  metric: string;
  second?: string;
  label: string;
  long: string;
  /** Stands in the head of the column; a value in any other unit says its own. */
  unit: string;
}

export const COLUMNS: readonly Column[] = [
  { metric: 'heart_rate', label: 'HR', long: 'Heart rate', unit: '/min' },
  { metric: 'spo2', label: 'SpO₂', long: 'SpO₂', unit: '%' },
  { metric: 'respiratory_rate', label: 'RR', long: 'Respiratory rate', unit: '/min' },
  { metric: 'systolic_pressure', second: 'diastolic_pressure', label: 'BP', long: 'Blood pressure', unit: 'mmHg' },
  { metric: 'temperature', label: 'Temp', long: 'Temperature', unit: '°C' },
];

/** Measured, but with no column of its own in the ward list. */
export const OTHERS: readonly Column[] = [
  { metric: 'glucose', label: 'Glucose', long: 'Glucose', unit: 'mg/dL' },
  { metric: 'weight', label: 'Weight', long: 'Weight', unit: 'kg' },
  { metric: 'consciousness', label: 'ACVPU', long: 'Consciousness', unit: '' },
  { metric: 'oxygen_flow', label: 'O₂', long: 'Oxygen flow', unit: 'L/min' },
  { metric: 'mean_pressure', label: 'MAP', long: 'Mean pressure', unit: 'mmHg' },
  { metric: 'steps', label: 'Steps', long: 'Steps', unit: 'steps' },
  { metric: 'battery', label: 'Battery', long: 'Battery', unit: '%' },
];
