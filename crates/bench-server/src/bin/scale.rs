//! Computes the tables of `docs/scale.md` from what was measured here.

#![expect(clippy::print_stdout, reason = "it prints the tables")]

use std::fmt::Write;

/// Measured (docs/performance.md), in seconds of CPU.
const QUESTION_AT_ZITADEL: f64 = 0.011; // two cores answer 180 a second
const SEARCH_AT_ZITADEL: f64 = 0.020; // by a running ZITADEL v4
const HIT: f64 = 0.000_000_18;
const JWT: f64 = 0.000_022_8; // RS256, seen for the first time
const QUESTION: f64 = 0.000_032; // at the instance
const TAKE: f64 = 0.000_040; // at the shared server
const PUT: f64 = 0.000_046; // as above
/// An instance that only reads the log, for each second, at the shared server.
const IDLE: f64 = 0.001_3;

/// In bytes: a verdict in an instance, and sealed at the shared server with its key and overhead.
const HELD: f64 = 2048.0;
const SEALED: f64 = 1536.0;

/// How the library works, a second.
const SEARCHES: f64 = 4.2; // two each half second, a third each five
const TTL: f64 = 60.0;
const HOLD: f64 = 3600.0 * 0.875; // spread over its last quarter

const TOKENS: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const INSTANCES: [u64; 4] = [1, 10, 100, 1000];

fn main() {
    print!("{}", page());
}

/// The tables, in Markdown.
fn page() -> String {
    let mut page = String::new();
    for table in [issuer(), server(), instance()] {
        page.push_str(&table);
        page.push('\n');
    }
    page
}

/// Cores of ZITADEL.
fn issuer() -> String {
    let mut table =
        "| live tokens | instances | without events | an event feed on each | a relay and a shared server | \
        the same with JWTs |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for tokens in TOKENS {
        for instances in INSTANCES {
            let (tokens, instances) = (float(tokens), float(instances));
            let feeds = SEARCHES * SEARCH_AT_ZITADEL;
            let asked = |often: f64| tokens / often * QUESTION_AT_ZITADEL;
            let cells =
                [asked(TTL) * instances, (asked(HOLD) + feeds) * instances, asked(HOLD) + feeds, feeds];
            row(&mut table, tokens, instances, &cells.map(cores));
        }
    }
    table
}

/// The shared server: CPU and memory.
fn server() -> String {
    let mut table =
        "| live tokens | instances | of one core | memory of verdicts |\n|---|---|---|---|\n".to_owned();
    for tokens in TOKENS {
        for instances in INSTANCES {
            let (tokens, instances) = (float(tokens), float(instances));
            let reads = instances * IDLE;
            let verdicts = tokens / HOLD * (PUT + instances * TAKE);
            row(&mut table, tokens, instances, &[cores(reads + verdicts), bytes(tokens * SEALED)]);
        }
    }
    table
}

/// One instance, where every token is used on each of them once a second.
fn instance() -> String {
    let mut table =
        "| live tokens | CPU of the checks, opaque tokens | JWTs | memory of verdicts |\n|---|---|---|---|\n"
            .to_owned();
    for tokens in TOKENS {
        let count = float(tokens);
        let opaque = count * HIT + count / HOLD * QUESTION;
        let jwts = count * HIT + count / HOLD * JWT;
        let cells = [thousands(tokens), cores(opaque), cores(jwts), bytes(count * HELD)];
        let _ = writeln!(table, "| {} |", cells.join(" | "));
    }
    table
}

fn row(table: &mut String, tokens: f64, instances: f64, cells: &[String]) {
    let _ = writeln!(table, "| {} | {instances} | {} |", thousands(whole(tokens)), cells.join(" | "));
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

fn cores(cores: f64) -> String {
    match cores {
        ..0.01 => format!("{:.1} %", cores * 100.0),
        ..0.995 => format!("{:.0} %", cores * 100.0),
        ..9.95 => format!("{cores:.1} cores"),
        ..100.0 => format!("{cores:.0} cores"),
        _ => format!("{} cores", thousands(whole(cores))),
    }
}

fn bytes(bytes: f64) -> String {
    match bytes {
        ..1e9 => format!("{:.0} MB", bytes / 1e6),
        _ => format!("{:.0} GB", bytes / 1e9),
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_tables() {
        let text = include_str!("../../../../docs/scale.md");
        for table in [issuer(), server(), instance()] {
            assert!(text.contains(&table), "docs/scale.md lacks:\n{table}");
        }
    }
}
