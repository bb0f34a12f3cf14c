//! Which partition a key belongs to: computed by us, as Java clients do, so that every writer agrees.

use crate::{IdError, Partition, PatientId};

/// The built-in rule that raises and clears with the canary: see [`crate::Metric::Canary`].
pub const CANARY_RULE: &str = "vigil-canary";

/// The patient who does not exist, one for each partition: `vigil-canary-{n}`, by the first n whose key falls there.
pub fn canary_patient(partition: Partition, partitions: u32) -> Result<PatientId, IdError> {
    let mut n = 0u32;
    loop {
        let id = PatientId::parse(&format!("vigil-canary-{n}"))?;
        if partition_of(id.as_bytes(), partitions).0 == partition.0 % partitions.max(1) {
            return Ok(id);
        }
        n += 1;
    }
}

/// `murmur2(key) & 0x7fff_ffff % partitions`, the default partitioner of Kafka's Java clients.
///
/// # Panics
/// Never: zero partitions count as one.
pub fn partition_of(key: &[u8], partitions: u32) -> Partition {
    Partition((murmur2(key) & 0x7fff_ffff) % partitions.max(1))
}

/// `org.apache.kafka.common.utils.Utils.murmur2`.
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    for (i, byte) in rest.iter().enumerate().rev() {
        h ^= u32::from(*byte) << (8 * i);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_its_canary() {
        for partitions in [1, 4, 7] {
            for partition in (0..partitions).map(Partition) {
                assert_eq!(partition_of(canary_patient(partition, partitions).unwrap().as_bytes(), partitions), partition);
            }
        }
    }

    /// Values of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn murmur2_is_javas() {
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }
}
