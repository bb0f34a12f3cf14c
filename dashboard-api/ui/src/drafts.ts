/** Notes begun and not yet sent, by alert, so that neither a closed panel nor a new sign-in loses one. In memory only. */
export const drafts = new Map<string, string>();
