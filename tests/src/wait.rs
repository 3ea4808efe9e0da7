//! Waiting for a condition: looks until it holds, at most so long, and then says what was seen last.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::signals;

/// Pause after the first look; it doubles up to [`PAUSE_MAX`], so that short waits stay exact.
const PAUSE_MIN: Duration = Duration::from_millis(4);
/// Longest pause between two looks.
const PAUSE_MAX: Duration = Duration::from_millis(64);

/// Looks until `look` succeeds, and gives what it found. An error of `look` means "not yet", and the
/// last one says why when time is over.
///
/// # Errors
/// Time is over, or the program was asked to end.
pub fn eventually<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    let mut pause = PAUSE_MIN;
    loop {
        signals::check()?;
        match look() {
            Ok(found) => return Ok(found),
            Err(why) if begun.elapsed() >= limit => {
                let seconds = limit.as_secs_f32();
                return Err(anyhow!("{what}: not after {seconds} s: {why:#}"));
            }
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::ensure;

    #[test]
    fn the_first_success_ends_it() {
        let mut looks = 0;
        let found = eventually(Duration::from_secs(5), "three looks", || {
            looks += 1;
            ensure!(looks == 3, "look {looks}");
            Ok(looks)
        });
        assert_eq!(found.expect("it comes at the third look"), 3);
    }

    #[test]
    fn the_last_reason_is_told() {
        let told = eventually(Duration::from_millis(20), "the impossible", || -> Result<()> {
            Err(anyhow!("1 is not 2"))
        });
        let text = told.expect_err("it never holds").to_string();
        assert!(text.starts_with("the impossible: not after") && text.ends_with("1 is not 2"), "{text}");
    }
}
