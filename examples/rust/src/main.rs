//! Counts the words of standard input.

use std::io::{self, BufRead};

fn count(input: impl BufRead) -> io::Result<usize> {
    let mut words = 0;
    for line in input.lines() {
        words += line?.split_whitespace().count();
    }
    Ok(words)
}

fn main() -> io::Result<()> {
    let words = count(io::stdin().lock())?;
    println!("{words} words, counted on {}", std::env::consts::ARCH);
    Ok(())
}
