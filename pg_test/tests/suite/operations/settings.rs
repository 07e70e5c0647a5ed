//! The reference of settings is the server's own.

use libtest_mimic::Trial;
use pg_test::Database;

use super::generated;

pub fn tests() -> Vec<Trial> {
    crate::tests![the_reference_is_what_the_server_says]
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
