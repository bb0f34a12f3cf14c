/** Notes begun and not yet sent, by alert, so that neither a closed panel nor a session that ran out loses one; signing out does. In memory only. */
export const drafts = new Map<string, string>();
