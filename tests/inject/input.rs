//! What `ebb inject` reads, and what it says when there is nothing in it.

use super::{NAMED, inject, injected, text};

fn said(args: &[&str], input: &str) -> (Option<i32>, String) {
    let output = inject(args, input);
    (output.status.code(), text(&output.stderr))
}

/// A folder with files, gone with it.
struct Files(std::path::PathBuf);

impl Files {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("ebb-inject-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        for (name, text) in files {
            std::fs::write(path.join(name), text).unwrap();
        }
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Guards: --check that finds everything in order because it could not read it.
#[test]
fn check_refuses_what_it_cannot_read() {
    let once = injected(&["--token", "T"], NAMED);
    for strange in ["{{ if .Values.x }}\na: b\n", "a: b: c\n", "kind: Pod\nkind: Pod\n"] {
        let input = format!("{once}---\n{strange}");
        let (code, error) = said(&["--check"], &input);
        assert_eq!(code, Some(2), "{strange}");
        assert!(error.contains("error: 1 document can't be read"), "{error}");
        assert_eq!(said(&["--check"], &once).0, Some(0));
        assert_eq!(injected(&[], &input), input);
    }
    let (_, note) = said(&[], &format!("{NAMED}{NAMED}"));
    assert!(note.contains("the key apiVersion for the second time; is a --- missing before it?"), "{note}");
    let (_, note) = said(&[], "a:\n  b: 1\n  b: 2\n");
    assert!(note.contains("line 3: the key b for the second time)"), "{note}");
}
