//! Compiles every function of a module, on all cores. The result doesn't depend on how many there are.

use crate::Progress;
use crate::error::Error;
use crate::limits::{MAX_BATCH_BYTES, MAX_BATCH_FUNCTIONS, MIN_BATCHES_PER_THREAD};
use crate::module::{Module, features};
use crate::native::codegen::{self, FunctionCompiler};
use crate::native::compiled_function::CompiledFunction;
use crate::settings::Settings;
use dunlin_format::arch::Arch;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;

/// Stack of a compiling thread, in bytes: Cranelift recurses on deeply nested expressions.
const STACK_SIZE: usize = 16 << 20;

/// Compiles every code index of the module, in that order. Of several errors the one of the lowest code index is
/// returned.
///
/// Machines and the interpreter have CLIF of their own, of the same points.
pub(crate) fn compile(
    module: &Module<'_>,
    settings: &Settings,
    progress: &Progress,
) -> Result<Vec<CompiledFunction>, Error> {
    let (portable, machines): (Vec<Arch>, Vec<Arch>) = settings.targets.iter().partition(|a| a.is_portable());
    if portable.is_empty() || machines.is_empty() {
        return compile_alike(module, settings, progress);
    }
    let with = |targets| Settings {
        targets,
        ..settings.clone()
    };
    let mut functions = compile_alike(module, &with(machines), progress)?;
    let others = compile_alike(module, &with(portable), progress)?;
    for (function, other) in functions.iter_mut().zip(others) {
        if function.points != other.points {
            return Err(Error::internal(
                function.code_index,
                "the interpreter's migration points are others",
            ));
        }
        function.machine.extend(other.machine);
    }
    Ok(functions)
}

/// Compiles for targets that have the same CLIF.
fn compile_alike(
    module: &Module<'_>,
    settings: &Settings,
    progress: &Progress,
) -> Result<Vec<CompiledFunction>, Error> {
    let prepared = codegen::prepare(module, settings).map_err(|e| explain(module, e))?;
    let threads = settings
        .threads
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
        .max(1);
    let compiler = || FunctionCompiler::new(module, settings, &prepared);
    let work = |compiler: &mut FunctionCompiler<'_>, batch: &[u32]| {
        let compiled = compiler.compile(batch);
        progress.functions.fetch_add(batch.len(), Ordering::Relaxed);
        let size = batch.iter().map(|&index| size(module, index)).sum();
        progress.size.fetch_add(size, Ordering::Relaxed);
        compiled
    };
    let order = largest_first(module);
    let all = order.iter().map(|&index| size(module, index)).sum();
    progress.of_size.store(all, Ordering::Relaxed);
    progress.of_functions.store(order.len(), Ordering::Relaxed);
    let batches = batches(&order, |index| size(module, index), threads);
    parallel(&batches, threads, compiler, work).map_err(|e| explain(module, e))
}

/// What a code index takes to compile: bytes of its body, and locals, of which a few bytes may declare many.
fn size(module: &Module<'_>, index: u32) -> usize {
    let Some(body) = module.body(index) else { return 0 };
    let groups = body.body.get_locals_reader().into_iter().flatten();
    let locals: usize = groups.map_while(Result::ok).map(|(count, _)| count as usize).sum();
    body.body.range().len() + locals
}

/// Cuts the order into batches. A function that is larger than a batch may be is one alone.
fn batches(order: &[u32], size: impl Fn(u32) -> usize, threads: usize) -> Vec<&[u32]> {
    let total: usize = order.iter().map(|&index| size(index)).sum();
    let (max_bytes, max_functions) = (
        total / (MIN_BATCHES_PER_THREAD * threads),
        order.len() / (MIN_BATCHES_PER_THREAD * threads),
    );
    let (max_bytes, max_functions) = (
        max_bytes.min(MAX_BATCH_BYTES),
        max_functions.clamp(1, MAX_BATCH_FUNCTIONS),
    );
    let mut batches = vec![];
    let mut rest = order;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fit = rest.iter().take(max_functions).take_while(|&&index| {
            bytes += size(index);
            bytes <= max_bytes
        });
        let (batch, others) = rest.split_at(fit.count().max(1));
        batches.push(batch);
        rest = others;
    }
    batches
}

/// The code indices, those of large bodies first: a large function begun last would keep one core busy and the others
/// waiting.
fn largest_first(module: &Module<'_>) -> Vec<u32> {
    let mut order: Vec<u32> = (0..module.num_codes()).collect();
    order.sort_by_cached_key(|&index| std::cmp::Reverse(size(module, index)));
    order
}

/// Names the feature or the function behind an error.
fn explain(module: &Module<'_>, error: Error) -> Error {
    match error {
        Error::Internal { func, name, message } if name.is_empty() => Error::Internal {
            func,
            name: module.symbol_name(func),
            message,
        },
        other => features::diagnose(module.wasm, other),
    }
}

/// The jobs a thread did, with their results.
type Done<T> = Vec<(u32, Result<T, Error>)>;

/// Does every job of the batches (together a permutation of the numbers from 0 on) on up to `threads` threads, each
/// with its own worker, and returns the results by job number, or the error of the lowest job number.
fn parallel<W, T: Send>(
    batches: &[&[u32]],
    threads: usize,
    worker: impl Fn() -> Result<W, Error> + Sync,
    work: impl Fn(&mut W, &[u32]) -> Vec<Result<T, Error>> + Sync,
) -> Result<Vec<T>, Error> {
    let next = AtomicUsize::new(0);
    // The lowest job that failed so far. Jobs above it needn't be done; jobs below it must, as they may fail as well.
    let failed = AtomicU32::new(u32::MAX);
    let run = || -> Result<Done<T>, Error> {
        let mut worker = worker()?;
        let mut done = Vec::new();
        while let Some(&batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            if batch.iter().all(|&job| job > failed.load(Ordering::Relaxed)) {
                continue;
            }
            for (&job, result) in batch.iter().zip(work(&mut worker, batch)) {
                if result.is_err() {
                    failed.fetch_min(job, Ordering::Relaxed);
                }
                done.push((job, result));
            }
        }
        Ok(done)
    };

    let threads = threads.clamp(1, batches.len().max(1));
    let parts = thread::scope(|scope| {
        let spawn = |n| {
            thread::Builder::new()
                .name(format!("compile {n}"))
                .stack_size(STACK_SIZE)
                .spawn_scoped(scope, run)
        };
        let handles: Vec<_> = (0..threads).filter_map(|n| spawn(n).ok()).collect();
        if handles.is_empty() {
            // No thread to be had: do it all here.
            return vec![run()];
        }
        let join =
            |h: thread::ScopedJoinHandle<'_, _>| h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        handles.into_iter().map(join).collect()
    });

    let mut results: Vec<Option<T>> = batches.iter().flat_map(|b| b.iter()).map(|_| None).collect();
    let mut first: Option<(u32, Error)> = None;
    for part in parts {
        for (job, result) in part? {
            match result {
                Ok(value) => results[job as usize] = Some(value),
                Err(e) if first.as_ref().is_none_or(|(n, _)| job < *n) => first = Some((job, e)),
                Err(_) => {}
            }
        }
    }
    match first {
        Some((_, e)) => Err(e),
        None => Ok(results.into_iter().flatten().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers below `n`, from the last one down, a few at a time.
    fn descending(n: u32) -> Vec<Vec<u32>> {
        let order: Vec<u32> = (0..n).rev().collect();
        order.chunks(3).map(<[u32]>::to_vec).collect()
    }

    fn slices(batches: &[Vec<u32>]) -> Vec<&[u32]> {
        batches.iter().map(Vec::as_slice).collect()
    }

    #[test]
    fn batches_are_of_limited_size() {
        let order: Vec<u32> = (0..20_000).collect();
        let large = |index: u32| {
            if index < 3 {
                MAX_BATCH_BYTES + 1
            } else {
                MAX_BATCH_BYTES / 10
            }
        };
        let cut = batches(&order, large, 2);
        assert_eq!(
            cut.iter().map(|b| b.len()).take(5).collect::<Vec<_>>(),
            [1, 1, 1, 10, 10]
        );
        assert_eq!(cut.concat(), order);
        assert!(
            batches(&order, |_| 0, 2)
                .iter()
                .all(|b| b.len() == MAX_BATCH_FUNCTIONS || b.last() == order.last())
        );
        assert!(batches(&[], |_| 0, 2).is_empty());
    }

    #[test]
    fn there_are_batches_for_all_threads() {
        let order: Vec<u32> = (0..100).collect();
        assert_eq!(batches(&order, |_| 10, 8).len(), 100);
        let cut = batches(&order, |_| 10, 2);
        assert!(cut.len() >= 2 * MIN_BATCHES_PER_THREAD && cut.concat() == order);
    }

    #[test]
    fn results_come_in_order() {
        let order = descending(1000);
        for threads in [1, 2, 7] {
            let counted = parallel(
                &slices(&order),
                threads,
                || Ok(0),
                |seen: &mut u32, batch| {
                    let one = |job: &u32| {
                        *seen += 1;
                        Ok((job * 2, *seen))
                    };
                    batch.iter().map(one).collect()
                },
            );
            let counted = counted.unwrap();
            assert!(counted.iter().zip(0..).all(|((twice, _), n)| *twice == 2 * n));
            assert!(
                counted.iter().all(|(_, seen)| *seen >= 1),
                "each thread has its own worker"
            );
        }
    }

    #[test]
    fn the_lowest_error_wins() {
        let order = descending(500);
        for threads in [1, 2, 8] {
            let one = |&job: &u32| {
                if job % 100 == 37 {
                    Err(Error::internal(job, "x"))
                } else {
                    Ok(job)
                }
            };
            let fail = |_: &mut (), batch: &[u32]| batch.iter().map(one).collect();
            assert_eq!(
                parallel(&slices(&order), threads, || Ok(()), fail),
                Err(Error::internal(37, "x"))
            );
        }
    }

    #[test]
    fn a_worker_that_cannot_be_made_is_an_error() {
        let no_work = |(): &mut (), batch: &[u32]| batch.iter().map(|&job| Ok(job)).collect();
        let result = parallel(&[&[0, 1]], 2, || Err::<(), _>(Error::internal(0, "no")), no_work);
        assert_eq!(result, Err(Error::internal(0, "no")));
        assert_eq!(parallel(&[], 4, || Ok(()), no_work), Ok(vec![]));
    }
}
