//! Which number below a limit takes the most steps to reach 1 (halve it if even, else three times it plus one)? Integer
//! arithmetic, a growing table on the heap, and a progress line now and then. Usage: collatz [LIMIT]
//!
//!   examples/build-rust examples/collatz.rs collatz.wasm

use std::collections::HashMap;

fn steps(start: u64, known: &mut HashMap<u64, u32>) -> u32 {
    if start == 1 {
        return 0;
    }
    if let Some(&n) = known.get(&start) {
        return n;
    }
    let next = if start % 2 == 0 { start / 2 } else { 3 * start + 1 };
    let n = 1 + steps(next, known);
    known.insert(start, n);
    n
}

fn main() {
    let limit: u64 = match std::env::args().nth(1).map(|a| a.parse()) {
        None => 1_000_000,
        Some(Ok(limit)) if limit > 1 => limit,
        Some(_) => {
            eprintln!("usage: collatz [LIMIT]");
            std::process::exit(1);
        }
    };
    let mut known = HashMap::new();
    let mut best = (1, 0);
    for start in 1..limit {
        let n = steps(start, &mut known);
        if n > best.1 {
            best = (start, n);
        }
        if start % (limit / 10).max(1) == 0 {
            println!("up to {start}: {} takes {} steps", best.0, best.1);
        }
    }
    println!("below {limit}: {} takes {} steps; {} numbers seen", best.0, best.1, known.len());
}
