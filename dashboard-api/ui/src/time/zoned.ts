/** Times as a ward reads them: its own zone, 24 hours, `14-Jul-2026 03:12`. Instants are milliseconds since 1970. */
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const MINUTE = 60_000;

interface Wall {
  year: number;
  month: number;
  day: number;
  date: string;
  time: string;
  seconds: string;
}

const formatters = new Map<string, Intl.DateTimeFormat>();

function formatter(zone: string): Intl.DateTimeFormat {
  let found = formatters.get(zone);
  if (!found) {
    found = new Intl.DateTimeFormat('en-GB', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
      second: '2-digit',
    });
    formatters.set(zone, found);
  }
  return found;
}

function wall(at: number, zone: string): Wall {
  const part: Partial<Record<Intl.DateTimeFormatPartTypes, string>> = {};
  for (const { type, value } of formatter(zone).formatToParts(at)) part[type] = value;
  const time = `${part.hour}:${part.minute}`;
  const [year, month, day] = [Number(part.year), Number(part.month), Number(part.day)];
  return { year, month, day, date: `${part.day}-${MONTHS[month - 1]}-${part.year}`, time, seconds: `${time}:${part.second}` };
}

/** The offset, when the clocks show this time twice that night; otherwise nothing. */
function offsetIfRepeated(at: number, zone: string, here: Wall): string {
  const repeated = [-60, -30, 30, 60].some((minutes) => {
    const other = wall(at + minutes * MINUTE, zone);
    return other.time === here.time && other.date === here.date;
  });
  if (!repeated) return '';
  const named = new Intl.DateTimeFormat('en-GB', { timeZone: zone, timeZoneName: 'longOffset' }).formatToParts(at);
  const offset = named.find(({ type }) => type === 'timeZoneName')?.value.replace('GMT', '');
  return ` ${offset || '+00:00'}`;
}

/** `03:12:07` */
export function clockSeconds(at: number, zone: string): string {
  const here = wall(at, zone);
  return here.seconds + offsetIfRepeated(at, zone, here);
}

/** `14-Jul-2026 03:12` */
export function dateTime(at: number, zone: string): string {
  const here = wall(at, zone);
  return `${here.date} ${here.time}${offsetIfRepeated(at, zone, here)}`;
}

/** `03:12` on the ward's today, otherwise with its date. */
export function moment(at: number, zone: string, now: number): string {
  const here = wall(at, zone);
  if (here.date !== wall(now, zone).date) return dateTime(at, zone);
  return here.time + offsetIfRepeated(at, zone, here);
}

/** `1945-07-14` as `14-Jul-1945`. A birthday has no zone. */
export function birthday(born: string): string {
  const [year, month, day] = born.split('-');
  return `${day}-${MONTHS[Number(month) - 1] ?? month}-${year}`;
}

export function yearsSince(born: string, now: number, zone: string): number {
  const [year = 0, month = 0, day = 0] = born.split('-').map(Number);
  const today = wall(now, zone);
  const hadBirthday = today.month > month || (today.month === month && today.day >= day);
  return today.year - year - (hadBirthday ? 0 : 1);
}

/** Whether the browser knows this zone; a page must not die of a misspelt ward. */
export function knownZone(zone: string): string {
  try {
    formatter(zone);
    return zone;
  } catch {
    return 'UTC';
  }
}
