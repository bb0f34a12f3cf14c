/** Every address of the page, and what it means. Names of people never stand in one: addresses are logged. */
export type Route =
  | { screen: 'sign-in' }
  | { screen: 'wards'; ward: string | null }
  | { screen: 'patient'; patient: string }
  | { screen: 'alerts'; alert: string | null }
  | { screen: 'unknown' };

export const paths = {
  signIn: () => '/sign-in',
  wards: (ward?: string | null) => (ward ? `/wards/${encodeURIComponent(ward)}` : '/wards'),
  patient: (patient: string) => `/patients/${encodeURIComponent(patient)}`,
  alerts: () => '/alerts',
  alert: (alert: string) => `/alerts/${encodeURIComponent(alert)}`,
};

export function parse(pathname: string): Route {
  const [screen = '', id, ...rest] = pathname.split('/').slice(1).map(decode);
  if (rest.length > 0) return { screen: 'unknown' };
  if (screen === '' || screen === 'wards') return { screen: 'wards', ward: id || null };
  if (screen === 'sign-in' && id === undefined) return { screen: 'sign-in' };
  if (screen === 'patients' && id) return { screen: 'patient', patient: id };
  if (screen === 'alerts') return { screen: 'alerts', alert: id || null };
  return { screen: 'unknown' };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
