//! Accounts, transfers between them, and a journal on disk that is read back: `ledger SCALE DIR`. Trait objects,
//! closures, hash maps (whose seeds are random), B-trees, strings, formatting, errors with `?`, files.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::error::Error;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::rc::Rc;

#[derive(Debug, Clone, PartialEq)]
enum Refused {
    NoSuchAccount(String),
    TooLittle { account: String, lacking: u64 },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::NoSuchAccount(name) => write!(f, "no account {name:?}"),
            Refused::TooLittle { account, lacking } => write!(f, "{account} lacks {lacking:>6}"),
        }
    }
}

impl Error for Refused {}

trait Fee {
    fn of(&self, amount: u64) -> u64;
}

struct Flat(u64);
struct Share(f64);

impl Fee for Flat {
    fn of(&self, _: u64) -> u64 {
        self.0
    }
}

impl Fee for Share {
    fn of(&self, amount: u64) -> u64 {
        (amount as f64 * self.0).round() as u64
    }
}

impl<F: Fn(u64) -> u64> Fee for F {
    fn of(&self, amount: u64) -> u64 {
        self(amount)
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

#[derive(Default)]
struct Bank {
    accounts: HashMap<Rc<str>, u64>,
    history: VecDeque<(Rc<str>, u64)>,
    refused: BTreeMap<String, usize>,
}

impl Bank {
    fn take(&mut self, name: &str, amount: u64) -> Result<Rc<str>, Refused> {
        let (name, balance) = self.accounts.get_key_value(name).ok_or_else(|| Refused::NoSuchAccount(name.to_owned()))?;
        let rest = balance.checked_sub(amount).ok_or_else(|| Refused::TooLittle {
            account: name.to_string(),
            lacking: amount - balance,
        })?;
        let name = name.clone();
        self.accounts.insert(name.clone(), rest);
        Ok(name)
    }

    fn transfer(&mut self, from: &str, to: &str, amount: u64, fee: &dyn Fee) -> Result<u64, Refused> {
        let fee = fee.of(amount);
        if !self.accounts.contains_key(to) {
            return Err(Refused::NoSuchAccount(to.into()));
        }
        let from = self.take(from, amount + fee)?;
        *self.accounts.get_mut(to).expect("it is there") += amount;
        self.history.push_back((from, amount));
        if self.history.len() > 64 {
            self.history.pop_front();
        }
        Ok(fee)
    }
}

/// The cheapest way between two places of a made-up grid.
fn cheapest(size: usize, random: &mut Random) -> u64 {
    let cost: Vec<u64> = (0..size * size).map(|_| 1 + random.below(9)).collect();
    let mut best = vec![u64::MAX; size * size];
    let mut heap = BinaryHeap::from([(std::cmp::Reverse(0), 0)]);
    while let Some((std::cmp::Reverse(d), at)) = heap.pop() {
        if d >= best[at] {
            continue;
        }
        best[at] = d;
        let (x, y) = (at % size, at / size);
        for (nx, ny) in [(x.wrapping_sub(1), y), (x + 1, y), (x, y.wrapping_sub(1)), (x, y + 1)] {
            if nx < size && ny < size {
                heap.push((std::cmp::Reverse(d + cost[ny * size + nx]), ny * size + nx));
            }
        }
    }
    best[size * size - 1]
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let scale: u64 = args.next().map_or(Ok(1), |a| a.parse())?;
    let dir = args.next().unwrap_or_else(|| ".".into());
    let journal = format!("{dir}/journal/of-all-transfers.txt");
    fs::create_dir_all(format!("{dir}/journal"))?;
    let mut out = BufWriter::new(File::create(&journal)?);

    let mut random = Random(88172645463325252);
    let mut bank = Bank::default();
    for i in 0..40 {
        bank.accounts.insert(format!("account-{i:02}").into(), 10_000 + 17 * i);
    }
    let bonus = 3;
    let fees: Vec<Box<dyn Fee>> = vec![Box::new(Flat(5)), Box::new(Share(0.015)), Box::new(move |a: u64| a % 7 + bonus)];
    let mut earned = 0;
    for round in 0..scale {
        for i in 0..200_u64 {
            let (from, to) = (format!("account-{:02}", random.below(41)), format!("account-{:02}", random.below(41)));
            let amount = random.below(3000);
            match bank.transfer(&from, &to, amount, &*fees[(i % 3) as usize]) {
                Ok(fee) => {
                    earned += fee;
                    writeln!(out, "{round}\t{from}\t{to}\t{amount}\t{fee}")?;
                }
                Err(refused) => *bank.refused.entry(refused.to_string()).or_default() += 1,
            }
        }
        let whole: u64 = bank.accounts.values().sum::<u64>() + earned;
        let mut top: Vec<_> = bank.accounts.iter().collect();
        top.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        println!(
            "round {round}: {} {:>6}, in all {whole}, way {}, mean {:.3}",
            top[0].0,
            top[0].1,
            cheapest(24, &mut random),
            bank.history.iter().map(|(_, n)| *n as f64).sum::<f64>() / bank.history.len() as f64
        );
    }
    out.flush()?;
    drop(out);

    // Read it back, and write the sums beside it.
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for line in BufReader::new(File::open(&journal)?).lines() {
        let line = line?;
        let fields: Vec<&str> = line.split('\t').collect();
        let [_, from, to, amount, fee] = fields[..] else { return Err("a line is torn".into()) };
        *sums.entry(from.into()).or_default() -= amount.parse::<i64>()? + fee.parse::<i64>()?;
        *sums.entry(to.into()).or_default() += amount.parse::<i64>()?;
        names.extend([from.to_owned(), to.to_owned()]);
    }
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(format!("{dir}/sums.new"))?;
    for (name, sum) in &sums {
        writeln!(file, "{name} {sum:+}")?;
    }
    file.seek(SeekFrom::Start(0))?;
    let lines = BufReader::new(&file).lines().count();
    fs::rename(format!("{dir}/sums.new"), format!("{dir}/sums.txt"))?;
    println!("{} names, {lines} lines, {} kinds of refusal, earned {earned}", names.len(), bank.refused.len());
    println!("{}", bank.refused.keys().next().map_or("none", |s| s));
    println!("missing: {}", File::open(format!("{dir}/absent")).is_err());
    println!("done");
    Ok(())
}
