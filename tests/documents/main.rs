//! The documents: links have targets, log lines and metrics are explained, and the example works.

mod fencing;
mod log_lines;
mod metrics;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The pages, relative to the checkout.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec!["README.md".into(), "CONTRIBUTING.md".into(), "SECURITY.md".into(), "CHANGELOG.md".into()];
    for entry in fs::read_dir(root().join("docs")).expect("the folder") {
        let name = entry.expect("an entry").file_name();
        if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
            pages.push(Path::new("docs").join(name));
        }
    }
    assert!(pages.len() > 10, "{pages:?}");
    pages
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(page: &Path) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

/// The files are those that `tests/machines` runs.
#[test]
fn the_operations_page_has_the_tested_files_of_the_virtual_ip() {
    let page = read("docs/operations.md".as_ref());
    let files: Vec<_> = fs::read_dir(root().join("packaging/virtual-ip")).expect("the folder").collect();
    assert_eq!(files.len(), 2);
    for file in files {
        let path = file.expect("a file").path();
        assert!(page.contains(&format!("\n{}```\n", read(&path))), "{} is not in the page", path.display());
    }
}

/// Returns the lines of a page that are not in a code block.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// Returns the targets of all `[text](target)` in the prose of a page.
fn links(page: &str) -> Vec<&str> {
    let after = prose(page).flat_map(|line| line.split("](").skip(1));
    after.filter_map(|rest| rest.split_once(')').map(|(target, _)| target)).collect()
}

/// Returns the anchors of the headings of a page, as GitHub makes them.
fn anchors(page: &str) -> Vec<String> {
    let headings = prose(page).filter(|line| line.starts_with('#'));
    let letter = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    };
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase().chars().filter_map(letter).collect())
        .collect()
}

#[test]
fn every_relative_link_points_to_an_existing_file_and_heading() {
    let mut wrong = Vec::new();
    for page in pages() {
        let text = read(&page);
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name("").join(file) };
            let exists = root().join(&target).exists();
            if !exists || (!anchor.is_empty() && !anchors(&read(&target)).iter().any(|found| found == anchor)) {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

/// A page without a link in the README would not be found.
#[test]
fn the_readme_links_to_every_page() {
    let readme = read(Path::new("README.md"));
    let linked = links(&readme);
    for page in pages().iter().filter(|page| page.starts_with("docs")) {
        let page = page.display().to_string();
        assert!(linked.contains(&page.as_str()), "README.md has no link to {page}");
    }
}

#[test]
fn the_readme_has_at_most_200_lines() {
    let lines = read(Path::new("README.md")).lines().count();
    assert!(lines <= 200, "README.md has {lines} lines; 200 are the most");
}
