//! Journal in, engine, journal out; ticks, snapshots, recovery, and the lake's raw layer.
