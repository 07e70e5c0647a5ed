//! libclang, with which the bindings to the server's headers are made.
//!
//! `libclang-cpp.so` is another library, and libclang without its own copy of `stddef.h` parses
//! nothing: both are on machines that cannot build.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::packages;

/// What is missing of what the bindings and the linker need: the packages, and why.
pub fn missing() -> (Vec<String>, Vec<&'static str>) {
    let mut packages = Vec::new();
    let mut why = Vec::new();
    if !is_installed() {
        packages.push("libclang-dev".to_string());
        why.push("libclang is needed to read the server's headers");
    }
    if ["cc", "gcc", "clang"].iter().all(|name| packages::find_program(name).is_none()) {
        packages.extend(["gcc", "libc6-dev"].map(String::from));
        why.push("a C compiler is needed to link");
    }
    (packages, why)
}

/// Makes sure that a build has them.
pub fn ensure() -> Result<()> {
    let (packages, why) = missing();
    if packages.is_empty() {
        return Ok(());
    }
    packages::install(&packages, &why.join("; "))?;
    if !is_installed() {
        bail!("libclang is not found, even after installing libclang-dev; LIBCLANG_PATH names its directory");
    }
    Ok(())
}

fn is_installed() -> bool {
    if let Some(path) = std::env::var_os("LIBCLANG_PATH") {
        let path = PathBuf::from(path);
        return path.is_file() || holds_libclang(&path);
    }
    let llvm = subdirectories(Path::new("/usr/lib"), "llvm-")
        .into_iter()
        .map(|dir| dir.join("lib"))
        .filter(|lib| has_own_headers(lib));
    let plain = ["/usr/lib64", "/usr/lib", "/usr/local/lib"].map(PathBuf::from);
    let multiarch =
        subdirectories(Path::new("/usr/lib"), "").into_iter().filter(|dir| dir.to_string_lossy().contains("-linux-"));
    // Outside LLVM's own directory the headers are wherever the clang program looks.
    let with_clang = plain.into_iter().chain(multiarch).filter(|_| packages::find_program("clang").is_some());
    llvm.chain(with_clang).any(|dir| holds_libclang(&dir))
}

fn has_own_headers(lib: &Path) -> bool {
    subdirectories(&lib.join("clang"), "").iter().any(|version| version.join("include/stddef.h").is_file())
}

fn subdirectories(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

fn holds_libclang(dir: &Path) -> bool {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| is_libclang(&entry.file_name().to_string_lossy()) && entry.path().exists())
}

/// `libclang.so`, `libclang.so.1`, `libclang-14.so`, `libclang-14.so.1`.
fn is_libclang(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("libclang") else {
        return false;
    };
    let rest = match rest.strip_prefix('-') {
        Some(version) => version.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'),
        None => rest.strip_prefix('.').unwrap_or(rest),
    };
    // The version may have swallowed the dot before `so`.
    rest == "so" || rest.starts_with("so.")
}

#[cfg(test)]
mod tests {
    use super::is_libclang;

    #[test]
    fn the_c_plus_plus_library_is_not_libclang() {
        for name in ["libclang.so", "libclang.so.1", "libclang-14.so.1", "libclang-14.0.6.so"] {
            assert!(is_libclang(name), "{name}");
        }
        for name in ["libclang-cpp.so.14", "libclang-cpp.so", "libclangAST.a", "libc.so"] {
            assert!(!is_libclang(name), "{name}");
        }
    }
}
