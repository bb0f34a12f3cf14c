//! Inputs in order to windows and transitions. Pure; the only place where clinical decisions are made.
