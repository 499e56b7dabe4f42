//! The soldiers: the three of the original demo, and any number of generated ones.

const ORIGINAL: [(&str, &str); 3] = [("张三", "班长"), ("李四", "排长"), ("王五", "连长")];
const GENERATED_PREFIX: &str = "小兵";
const GENERATED_ROLES: [&str; 5] = ["列兵", "上等兵", "下士", "中士", "上士"];

/// The role of `name`: one for the three and for every name that begins like a generated one.
pub fn role_of(name: &str) -> Option<&'static str> {
    if let Some((_, role)) = ORIGINAL.iter().find(|(original, _)| *original == name) {
        return Some(role);
    }
    let number: usize = name.strip_prefix(GENERATED_PREFIX)?.parse().unwrap_or(0);
    Some(GENERATED_ROLES[number % GENERATED_ROLES.len()])
}

/// The names of the three, then of `generated` soldiers: `小兵0001` and so on.
#[allow(dead_code, reason = "the origin server knows its soldiers by their prefix and lists none")]
pub fn names(generated: usize) -> impl Iterator<Item = String> {
    let original = ORIGINAL.iter().map(|(name, _)| (*name).to_owned());
    original.chain((1..=generated).map(|number| format!("{GENERATED_PREFIX}{number:04}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_named_has_a_role() {
        let shown: Vec<String> =
            names(2).map(|name| format!("{name}{}", role_of(&name).expect("a soldier has a role"))).collect();
        assert_eq!(shown.join(" "), "张三班长 李四排长 王五连长 小兵0001上等兵 小兵0002下士");
    }

    #[test]
    fn strangers_have_none() {
        assert_eq!(role_of("赵六"), None);
    }
}
