//! The reference of settings is the server's own.

use libtest_mimic::Trial;
use pg_test::Database;

use super::fixture::root;
use super::generated;
use crate::harness::Nowhere;

pub fn tests() -> Vec<Trial> {
    crate::tests![the_reference_is_what_the_server_says, every_setting_of_the_sources_is_on_the_page]
}

async fn the_reference_is_what_the_server_says(db: Database) {
    let client = db.connect("postgres").await;
    let settings = client
        .rows(
            "SELECT name, vartype, coalesce(boot_val, ''), coalesce(unit, ''), coalesce(min_val, ''), coalesce(max_val, ''),
                    coalesce(array_to_string(enumvals, ', '), ''), context, short_desc, coalesce(extra_desc, '')
               FROM pg_settings WHERE name LIKE 'bulkhead.%' ORDER BY name",
        )
        .await;
    assert!(settings.len() > 25, "{settings:?}");
    let mut text =
        String::from("| setting | type | default | range | who changes it | what it is |\n|---|---|---|---|---|---|\n");
    for setting in &settings {
        let [name, of_type, default, unit, least, most, choices, context, short, more] = setting.as_slice() else {
            panic!("{setting:?}")
        };
        let shown = |value: &str| if value.is_empty() { "''".to_owned() } else { with_unit(value, unit) };
        let range = match choices.is_empty() {
            false => choices.clone(),
            true if least.is_empty() => String::new(),
            true => format!("{} to {}", with_unit(least, unit), with_unit(most, unit)),
        };
        let who = match context.as_str() {
            "user" => "anybody: SET",
            "superuser" => "superuser: SET, ALTER ROLE, ALTER DATABASE",
            "sighup" => "configuration, reload",
            "postmaster" => "configuration, restart",
            other => panic!("{name} is of context {other}"),
        };
        let name = format!("`{name}`");
        let default = format!("`{}`", shown(default));
        let about = format!("{short} {more}");
        text.push_str(&generated::row(&[&name, of_type, &default, &range, who, about.trim()]));
    }
    generated::is("operations.md", "settings", &text);
}

/// Seconds as a person would say them.
fn with_unit(value: &str, unit: &str) -> String {
    let Ok(number) = value.parse::<i64>() else { return value.to_owned() };
    match unit {
        "s" if number > 0 && number % 86_400 == 0 => format!("{} d", number / 86_400),
        "s" if number > 0 && number % 3_600 == 0 => format!("{} h", number / 3_600),
        "s" if number > 0 && number % 60 == 0 => format!("{} min", number / 60),
        "" => value.to_owned(),
        unit => format!("{value} {unit}"),
    }
}

/// Also one that pg_settings does not list.
async fn every_setting_of_the_sources_is_on_the_page(_: Nowhere) {
    let page = generated::page("operations.md");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("src/pg/settings")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let quoted = text.split("c\"bulkhead.").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        names.extend(quoted.filter(|name| !name.contains(' ')));
    }
    assert!(names.len() > 25, "{names:?}");
    let missing: Vec<_> = names.iter().filter(|name| !page.contains(&format!("`bulkhead.{name}`"))).collect();
    assert!(missing.is_empty(), "docs/operations.md does not name {missing:?}");
}
