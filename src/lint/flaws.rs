//! Known flaws of the server's own row level security, by the minor version that mends them. Pure.

pub struct Flaw {
    pub cve: &'static str,
    pub what: &'static str,
    /// For each affected major version, the first minor that is not.
    fixed: &'static [(i32, i32)],
}

/// From the security page of postgresql.org, the majors that this extension runs on.
const FLAWS: [Flaw; 6] = [
    Flaw {
        cve: "CVE-2025-8713",
        what: "optimizer statistics show sampled values that a view, partition or policy hides",
        fixed: &[(14, 19), (15, 14), (16, 10), (17, 6)],
    },
    Flaw {
        cve: "CVE-2024-10976",
        what: "a plan made for one role is used for another where a subquery, WITH or SQL function reads the table",
        fixed: &[(14, 14), (15, 9), (16, 5), (17, 1)],
    },
    Flaw {
        cve: "CVE-2024-10978",
        what: "SET ROLE and SET SESSION AUTHORIZATION inside a function may be reset to the wrong role",
        fixed: &[(14, 14), (15, 9), (16, 5), (17, 1)],
    },
    Flaw {
        cve: "CVE-2023-39418",
        what: "MERGE does not apply UPDATE and SELECT policies to the rows it changes",
        fixed: &[(15, 4)],
    },
    Flaw {
        cve: "CVE-2023-2455",
        what: "policies of the wrong role are applied after a function with SET ROLE was inlined",
        fixed: &[(14, 8), (15, 3)],
    },
    Flaw {
        cve: "CVE-2022-1552",
        what: "autovacuum, REINDEX and others run an owner's functions with a superuser's rights",
        fixed: &[(14, 3)],
    },
];

/// The flaws that a server of this version (`server_version_num`) still has, and the minor that has none of them.
pub fn of(version: i32) -> (Vec<&'static Flaw>, Option<i32>) {
    let (major, minor) = (version / 10_000, version % 10_000);
    let open = |flaw: &&Flaw| flaw.fixed.iter().any(|(m, fixed)| *m == major && minor < *fixed);
    let flaws: Vec<&Flaw> = FLAWS.iter().filter(open).collect();
    let fixed = flaws.iter().flat_map(|flaw| flaw.fixed).filter(|(m, _)| *m == major).map(|(_, fixed)| *fixed).max();
    (flaws, fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cves(version: i32) -> Vec<&'static str> {
        of(version).0.iter().map(|flaw| flaw.cve).collect()
    }

    #[test]
    fn each_flaw_ends_with_the_minor_that_mends_it() {
        for flaw in &FLAWS {
            for (major, fixed) in flaw.fixed {
                assert!(cves(major * 10_000 + fixed - 1).contains(&flaw.cve), "{} {major}", flaw.cve);
                assert!(!cves(major * 10_000 + fixed).contains(&flaw.cve), "{} {major}", flaw.cve);
            }
        }
    }

    #[test]
    fn a_current_server_has_none() {
        for version in [140_020, 150_015, 160_011, 170_007, 180_001] {
            assert_eq!(cves(version), [""; 0], "{version}");
        }
        assert_eq!(of(150_003).1, Some(14));
        assert_eq!(cves(150_008), ["CVE-2025-8713", "CVE-2024-10976", "CVE-2024-10978"]);
        assert_eq!(of(180_000).1, None);
    }
}
