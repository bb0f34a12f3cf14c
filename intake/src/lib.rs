//! Topic and payload in, inputs or dead letters out. Pure.
