//! The worked example of `docs/guarantees.md`: a storage that refuses old tokens.

use std::{path::Path, process::Command};

use crate::read;

/// Runs the statements of the page: one leader, the next one, and the first one again.
const SCRIPT: &str = "\
import sqlite3, sys
create, write = sys.argv[1:]
storage = sqlite3.connect(':memory:')
storage.execute(create)
for token in '5001', '5007', '5001':
    print(storage.execute(write.replace('5001', token)).rowcount)
";

#[test]
fn the_fencing_example_refuses_an_older_token() {
    let page = read(Path::new("docs/guarantees.md"));
    let statements: Vec<_> = page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let [create, write] = statements[..] else { panic!("two statements are expected: {statements:?}") };
    match Command::new("python3").args(["-c", SCRIPT, create, write]).output() {
        Ok(output) if output.status.success() => {
            assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n1\n0\n", "rows changed by each write");
        }
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("No module named") => {
            eprintln!("SKIPPED: the SQL example: python3 has no sqlite3");
        }
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => eprintln!("SKIPPED: the SQL example: python3: {error}"),
    }
}
