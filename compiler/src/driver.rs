//! Compiles every function of a module, on all cores. The result doesn't depend on how many there are.

use crate::codegen::{self, FunctionCompiler};
use crate::error::Error;
use crate::features;
use crate::module::Module;
use crate::output::CompiledFunction;
use crate::settings::Settings;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;

/// Stack of a compiling thread, in bytes: Cranelift recurses on deeply nested expressions.
const STACK_SIZE: usize = 16 << 20;

/// Compiles every code index of the module, in that order. Of several errors the one of the lowest code index is returned.
pub fn compile(module: &Module<'_>, settings: &Settings) -> Result<Vec<CompiledFunction>, Error> {
    let prepared = codegen::prepare(module, settings).map_err(|e| explain(module, e))?;
    let threads = settings
        .threads
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let compiler = || FunctionCompiler::new(module, settings, &prepared);
    let work = |compiler: &mut FunctionCompiler<'_>, index| compiler.compile(index, module.body(index).cloned());
    parallel(&largest_first(module), threads, compiler, work).map_err(|e| explain(module, e))
}

/// The code indices, those of large bodies first: a large function begun last would keep one core busy and the others waiting.
fn largest_first(module: &Module<'_>) -> Vec<u32> {
    let size = |index: &u32| module.body(*index).map_or(0, |b| b.body.range().len());
    let mut order: Vec<u32> = (0..module.num_codes()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(size(index)));
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

/// Does every job of `order` (a permutation of `0..order.len()`) on up to `threads` threads, each with its own worker, and
/// returns the results by job number, or the error of the lowest job number.
fn parallel<W, T: Send>(
    order: &[u32],
    threads: usize,
    worker: impl Fn() -> Result<W, Error> + Sync,
    work: impl Fn(&mut W, u32) -> Result<T, Error> + Sync,
) -> Result<Vec<T>, Error> {
    let next = AtomicUsize::new(0);
    // The lowest job that failed so far. Jobs above it needn't be done; jobs below it must, as they may fail as well.
    let failed = AtomicU32::new(u32::MAX);
    let run = || -> Result<Done<T>, Error> {
        let mut worker = worker()?;
        let mut done = Vec::new();
        while let Some(&job) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            if job > failed.load(Ordering::Relaxed) {
                continue;
            }
            let result = work(&mut worker, job);
            if result.is_err() {
                failed.fetch_min(job, Ordering::Relaxed);
            }
            done.push((job, result));
        }
        Ok(done)
    };

    let threads = threads.clamp(1, order.len().max(1));
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
        let join = |h: thread::ScopedJoinHandle<'_, _>| h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        handles.into_iter().map(join).collect()
    });

    let mut results: Vec<Option<T>> = order.iter().map(|_| None).collect();
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

    #[test]
    fn results_come_in_order() {
        let order: Vec<u32> = (0..1000).rev().collect();
        for threads in [1, 2, 7] {
            let counted = parallel(
                &order,
                threads,
                || Ok(0),
                |seen: &mut u32, job| {
                    *seen += 1;
                    Ok((job * 2, *seen))
                },
            );
            let counted = counted.unwrap();
            assert!(counted.iter().zip(0..).all(|((twice, _), n)| *twice == 2 * n));
            assert!(counted.iter().all(|(_, seen)| *seen >= 1), "each thread has its own worker");
        }
    }

    #[test]
    fn the_lowest_error_wins() {
        let order: Vec<u32> = (0..500).rev().collect();
        for threads in [1, 2, 8] {
            let fail = |_: &mut (), job| {
                if job % 100 == 37 {
                    Err(Error::internal(job, "x"))
                } else {
                    Ok(job)
                }
            };
            assert_eq!(parallel(&order, threads, || Ok(()), fail), Err(Error::internal(37, "x")));
        }
    }

    #[test]
    fn a_worker_that_cannot_be_made_is_an_error() {
        let result = parallel(&[0, 1], 2, || Err::<(), _>(Error::internal(0, "no")), |(), job| Ok(job));
        assert_eq!(result, Err(Error::internal(0, "no")));
        assert_eq!(parallel(&[], 4, || Ok(()), |(), job| Ok(job)), Ok(vec![]));
    }
}
