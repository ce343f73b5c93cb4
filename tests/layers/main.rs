//! Checks the layers of the crate documentation: no import runs to a higher layer, and none in a circle between files.
//!
//! The test reads `use` declarations and paths that begin with `crate::`, `super::`, `self::` or the name of a
//! submodule. It skips the code of tests, which may import from higher layers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The module path (without `crate`) and the text of each file.
type Sources = BTreeMap<Vec<String>, String>;
type Imports = BTreeMap<Vec<String>, BTreeSet<Vec<String>>>;

#[test]
fn no_import_runs_to_a_higher_layer_or_in_a_circle() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Sources::new();
    read(&source, &mut Vec::new(), &mut sources);
    let layers = layers(&fs::read_to_string(source.join("lib.rs")).expect("lib.rs"));
    assert!(layers.len() > 5 && sources.len() > 40, "{layers:?}, {} files", sources.len());
    let found = violations(&sources, &layers);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_made_up_tree_with_each_violation_is_refused() {
    let layers =
        layers("//! # Layers\n//!\n//! ```text\n//! main.rs   the role\n//! top   all\n//! low   words\n//! ```\n");
    assert_eq!(layers, ["low", "top"]);
    let check = |files: &[(&str, &str)]| {
        let module = |name: &str| name.split("::").map(str::to_owned).collect();
        violations(&files.iter().map(|(name, text)| (module(name), (*text).to_owned())).collect(), &layers)
    };
    let sound = [
        ("top", "mod a;\nmod b;\npub use self::a::A;\nfn f() { b::g() }\n"),
        ("top::a", "use super::b::{B, self as other};\nuse crate::{low, low::Word};\n// use crate::nowhere;\n"),
        ("top::b", "const TEXT: &str = \"crate::top::a\";\n#[cfg(test)]\nmod tests {\n    use crate::top::A;\n}\n"),
        ("low", ""),
    ];
    assert_eq!(check(&sound), [""; 0]);
    for (what, file, text, expected) in [
        (
            "upward",
            "low",
            "use crate::{\n    top::{\n        b::B,\n    },\n};",
            "low imports top::b, which is in a higher layer",
        ),
        (
            "upward, inline",
            "low",
            "fn f() -> crate::top::a::A { crate::top::a::new() }",
            "low imports top::a, which is in a higher layer",
        ),
        ("a circle of siblings", "top::b", "use super::a::A;", "a circle: top::a -> top::b -> top::a"),
        ("a circle with a parent", "top::b", "fn f() { super::h() }", "a circle: top -> top::a -> top::b -> top"),
        ("no layer", "other", "", "other is in no layer of lib.rs"),
    ] {
        let mut files: BTreeMap<_, _> = sound.into_iter().collect();
        files.insert(file, text);
        let found = check(&files.into_iter().collect::<Vec<_>>());
        assert!(found.iter().any(|line| line == expected), "{what}: {found:?}");
    }
}

/// Returns the layers of a crate's documentation, the lowest first.
fn layers(lib: &str) -> Vec<String> {
    let doc = lib.lines().filter_map(|line| line.strip_prefix("//!")).map(str::trim);
    let drawing = doc.skip_while(|line| *line != "# Layers").skip_while(|line| *line != "```text").skip(1);
    let names = drawing.take_while(|line| *line != "```").filter_map(|line| line.split_whitespace().next());
    let mut layers: Vec<_> = names.filter(|name| *name != "main.rs").map(str::to_owned).collect();
    layers.reverse();
    layers
}

fn read(folder: &Path, module: &mut Vec<String>, sources: &mut Sources) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        module.push(path.file_stem().expect("a name").to_str().expect("text").to_owned());
        let is_test = module.last().is_some_and(|name| name == "tests" || name.ends_with("_tests"));
        if path.is_dir() {
            read(&path, module, sources);
        } else if !is_test && !["lib", "main"].contains(&module[0].as_str()) {
            sources.insert(module.clone(), fs::read_to_string(&path).expect("text"));
        }
        module.pop();
    }
}

fn violations(sources: &Sources, layers: &[String]) -> Vec<String> {
    let layer = |module: &[String]| layers.iter().position(|layer| *layer == module[0]);
    let mut found = Vec::new();
    for module in sources.keys().filter(|module| layer(module).is_none()) {
        found.push(format!("{} is in no layer of lib.rs", module.join("::")));
    }
    let imports: Imports =
        sources.iter().map(|(module, text)| (module.clone(), imports(module, text, sources))).collect();
    for (module, imported) in &imports {
        for other in imported.iter().filter(|other| layer(other) > layer(module)) {
            found.push(format!("{} imports {}, which is in a higher layer", module.join("::"), other.join("::")));
        }
    }
    let mut done = BTreeSet::new();
    for module in imports.keys() {
        if let Some(circle) = circle(module, &imports, &mut Vec::new(), &mut done) {
            let names: Vec<_> = circle.iter().map(|module| module.join("::")).collect();
            found.push(format!("a circle: {}", names.join(" -> ")));
        }
    }
    found
}

/// Returns the first circle that contains this file.
fn circle(
    module: &Vec<String>,
    imports: &Imports,
    path: &mut Vec<Vec<String>>,
    done: &mut BTreeSet<Vec<String>>,
) -> Option<Vec<Vec<String>>> {
    if let Some(begin) = path.iter().position(|before| before == module) {
        return Some([&path[begin..], std::slice::from_ref(module)].concat());
    }
    if done.contains(module) {
        return None;
    }
    path.push(module.clone());
    let found = imports[module].iter().find_map(|next| circle(next, imports, path, done));
    path.pop();
    done.insert(module.clone());
    found
}

/// Returns the files from which a file imports.
fn imports(module: &[String], text: &str, sources: &Sources) -> BTreeSet<Vec<String>> {
    let code = code(text);
    let children: Vec<_> =
        sources.keys().filter(|other| other.len() == module.len() + 1 && other.starts_with(module)).collect();
    let begins = |word: &str| {
        ["crate", "super", "self"].contains(&word)
            || children.iter().any(|child| child.last().is_some_and(|name| name == word))
    };
    let mut found = BTreeSet::new();
    let mut rest = code.as_str();
    let mut before = ' ';
    while let Some(next) = rest.chars().next() {
        let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if word.is_empty() {
            before = next;
            rest = &rest[next.len_utf8()..];
            continue;
        }
        if before != ':' && before != '.' && begins(&word) && rest[word.len()..].starts_with("::") {
            let mut paths = Vec::new();
            rest = tree(rest, &mut Vec::new(), &mut paths);
            found.extend(paths.iter().filter_map(|path| file_of(module, path, sources)));
        } else {
            rest = &rest[word.len()..];
        }
        before = 'a';
    }
    found.remove(module);
    found
}

/// Reads one path or tree of paths, and returns what follows it.
fn tree<'a>(mut text: &'a str, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let length = path.len();
    loop {
        text = text.trim_start();
        if let Some(inner) = text.strip_prefix('{') {
            text = inner;
            loop {
                text = text.trim_start().trim_start_matches(',').trim_start();
                if text.is_empty() || text.starts_with('}') {
                    break;
                }
                let rest = tree(text, path, found);
                // `self as other`, or not a tree: continue behind it.
                let end = rest.find([',', '}']).unwrap_or(rest.len());
                text = &rest[end..];
            }
            text = text.strip_prefix('}').unwrap_or(text);
            break;
        }
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        path.push(text[..end].to_owned());
        text = &text[end..];
        match text.strip_prefix("::") {
            Some(rest) if rest.trim_start().starts_with(|c: char| c.is_alphabetic() || c == '{' || c == '_') => {
                text = rest
            }
            _ => {
                found.push(path.clone());
                break;
            }
        }
    }
    path.truncate(length);
    text
}

/// Returns the file of a path: that of its longest prefix that is a module.
fn file_of(module: &[String], path: &[String], sources: &Sources) -> Option<Vec<String>> {
    let mut absolute = match path[0].as_str() {
        "crate" => Vec::new(),
        "super" => module[..module.len() - 1].to_vec(),
        _ => module.to_vec(),
    };
    for name in path.iter().skip(usize::from(["crate", "super", "self"].contains(&path[0].as_str()))) {
        match name.as_str() {
            "super" => drop(absolute.pop()),
            "self" => {}
            name => absolute.push(name.to_owned()),
        }
    }
    while !absolute.is_empty() && !sources.contains_key(&absolute) {
        absolute.pop();
    }
    (!absolute.is_empty()).then_some(absolute)
}

/// Returns the code of a file without comments, strings, and the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let text = text.split("#[cfg(test)]\npub(crate) mod tests").next().unwrap_or(text);
    let lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
    let mut code = String::new();
    for line in lines {
        // A quoted quotation mark does not begin a string.
        let line = line.replace("'\"'", "").replace("\\\"", "");
        for (n, part) in line.split('"').enumerate() {
            if n % 2 == 0 {
                code.push_str(part.split("// ").next().unwrap_or(part));
            }
        }
        code.push('\n');
    }
    code
}
