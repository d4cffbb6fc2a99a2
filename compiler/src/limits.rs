//! The limits on size and time: how much of something there may be, and what is done differently beyond it.
//!
//! Ordinary programs meet none of the limits on functions. They are for generated code with thousands of branches,
//! loops or variables, which Cranelift's algorithms (or this crate's) would otherwise spend minutes or gigabytes on.
//! `tests/tests/large.rs` compiles such shapes at two sizes. All are measured values: near them, either way is about as
//! fast. None of them changes migration points, homes or live sets, but for those on polls.

/// Most bytes of a module's binary: code positions are 32-bit offsets in it. A larger module is refused.
pub(crate) const MAX_MODULE_BYTES: u64 = u32::MAX as u64;

/// Most bytes of one architecture's machine code: displacements are signed 32-bit numbers. A program with more is
/// refused.
pub(crate) const MAX_TEXT_BYTES: u64 = i32::MAX as u64;

/// Most bytes of an executable's symbol names: ELF refers to them by 32-bit offsets. A program with more is refused.
pub(crate) const MAX_SYMBOL_NAME_BYTES: u64 = u32::MAX as u64;

// Batches: functions that a thread takes through the phases together. All their intermediate code is in memory at once.

/// Most bytes of the bodies of a batch (each local counts for one, too). A larger function is a batch alone.
pub(crate) const MAX_BATCH_BYTES: usize = 64 << 10;

/// Most functions of a batch.
pub(crate) const MAX_BATCH_FUNCTIONS: usize = 64;

/// Fewest batches for each thread: batches of small modules are cut smaller, so that all threads have something to do
/// until the end.
pub(crate) const MIN_BATCHES_PER_THREAD: usize = 8;

// Polls.

/// Most operators that a call may run through, callees included, without a poll. A function at which there would be
/// more polls at its entry; else there would be programs that make 2^100 calls between two polls.
pub(crate) const MAX_OPERATORS_WITHOUT_POLL: u32 = 1 << 14;

/// Operators that one operator on a range of memory or of a table counts for, in the limit above.
pub(crate) const BULK_OPERATORS: u32 = 1 << 11;

// Whole functions.

/// Most bits of a table of blocks times variables (half a gigabyte). With more, a function with migration points is
/// refused; in one without, every variable is in memory.
pub(crate) const MAX_LIVENESS_BITS: u64 = 1 << 32;

/// Most blocks times variables in SSA form: Cranelift's front end has a table of what each variable is in each block.
/// In a function with more, so many variables are in memory that the others fit.
pub(crate) const MAX_SSA_ENTRIES: u64 = 1 << 25;

/// Most variables alive at once, by default. In a function with more, half as many stay in registers as far as those
/// go, and the others are in memory.
pub(crate) const MAX_ALIVE: usize = 512;

/// Most steps up the dominator tree and over pairs of loops that the mid-end is expected to take for a function (half a
/// second). One that needs more is compiled without the mid-end, as with `-O1`.
pub(crate) const MAX_OPTIMIZER_STEPS: u64 = 500_000_000;

// Costs of variables where paths meet: 1 for a variable on an edge to a merge that it only passes by. In a function
// where they are beyond `MAX_COST_PER_EDGE` and `MAX_FREE_COST` together, the variables that are worth least for what
// they cost are in memory.

/// Highest cost on an edge, as the average over a function's edges to merges.
pub(crate) const MAX_COST_PER_EDGE: u64 = 512;

/// Highest cost that any function may have in addition, however few its edges.
pub(crate) const MAX_FREE_COST: u64 = 4_000_000;

/// Cost of a variable on an edge to a merge at which it has several values: it becomes a block's parameter.
pub(crate) const CHANGED_COST: u64 = 32;

/// Highest cost of one variable in such a function; one that costs more is in memory, as the register allocator's time
/// grows with the square of it.
pub(crate) const MAX_VARIABLE_COST: u64 = 2048 * CHANGED_COST;

/// Loops around a merge after which `CHANGED_COST` counts once more.
pub(crate) const LOOPS_PER_CHANGED_COST: u64 = 16;

/// Most distinct targets of a `br_table` whose edges cost as much as any. With more, each edge costs as much more as
/// there are more of them: the register allocator joins a value's range with those of the parameters it becomes one by
/// one, each time going through all it has joined.
pub(crate) const MAX_CHEAP_TARGETS: usize = 512;

/// Most pairs of a merge and a variable held there that are looked at to tell which variables cost most. Of a function
/// with more, every so many-th merge is looked at, and each that has a `LARGE_MERGE_PART` of all pairs.
pub(crate) const MAX_SAMPLED_PAIRS: u64 = 1 << 26;

/// The part of all pairs (one in so many) from which on a merge is looked at in any case.
pub(crate) const LARGE_MERGE_PART: u64 = 64;

// What is in registers where paths meet.

/// Most operators in the body of a loop with calls that is treated as any other. In a larger one (an interpreter's),
/// what is not read before the next call is in the record at the header.
pub(crate) const MAX_LOOP_OPERATORS: u32 = 1500;

/// Most variables live at a loop's header for those that the loop doesn't touch to stay in registers. With more, those
/// are in the record.
pub(crate) const MAX_LIVE_THROUGH_LOOP: usize = 12;

/// Most variables in registers at a loop's header: its poll stores and loads them all. The others are in the record.
pub(crate) const MAX_LOOP_REGISTERS: usize = 128;

/// Most edges to a loop's header with the context pointer in a register. With more, it is in the record (variables are
/// then in memory for what they cost).
pub(crate) const MAX_LOOP_EDGES: u32 = 512;

/// Most variables that a merge has loaded on some edges because they are in registers, but not stored, on others. With
/// more, those are stored and left in the record: a function with thousands would load them all after every call.
pub(crate) const MAX_MERGE_LOADS: u32 = 32;

/// Most edges to a merge on which any number of variables are loaded that are read soon behind it. With more edges, it
/// is at most `MAX_MERGE_LOADS` variables, or none.
pub(crate) const MAX_MERGE_EDGES: u32 = 16;

/// Most merges that the code between two calls may have edges to with values in registers. If they are more, what has a
/// home is in the record at each of them: the register allocator would go through all merges for every further one.
pub(crate) const MAX_FANOUT: usize = 512;

// Code around branches.

/// Most targets, most entries and (squared) most arguments of a `br_table` that goes to its targets without a block in
/// between. Beyond, code size and compile time count for more than a jump that is saved.
pub(crate) const MAX_DIRECT_TARGETS: usize = 512;

/// Most entries of a `br_table` beyond that limit which go to one target without a block in between.
pub(crate) const MAX_DIRECT_ENTRIES: usize = 4;

/// Fewest loads and stores on the edges of a `br_table`, all together, for which those that many edges have in common
/// are done once before it.
pub(crate) const MIN_SHARED_FIXUPS: usize = 512;

/// Loads and stores per distinct one from which on they are shared so.
pub(crate) const MIN_FIXUP_REPEATS: usize = 4;

/// Most loads and stores on the edge of a conditional branch. More of them are done before the branch, on both ways:
/// after it they needn't be done again.
pub(crate) const MAX_BRANCH_FIXUPS: usize = 64;

/// Most edges to the function's common return block. Each further one returns by itself: the register allocator goes
/// through all edges of a block for each of them.
pub(crate) const MAX_SHARED_RETURNS: usize = 512;

/// Most nested loops with a latch that polls. Those inside poll at their headers: each latch makes two loops of one,
/// and the optimiser's time grows with the square of the depth for every value that it may move out of them.
pub(crate) const MAX_NESTED_LATCHES: usize = 32;
