//! Tables keyed by small numbers, with regalloc2's hash function: the standard one took 1.4 % of a build's time.

use rustc_hash::FxBuildHasher;

/// A map.
pub type HashMap<K, V> = std::collections::HashMap<K, V, FxBuildHasher>;
/// A set.
pub type HashSet<K> = std::collections::HashSet<K, FxBuildHasher>;
