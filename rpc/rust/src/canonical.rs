//! How does RFC 8785 write this JSON?

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::collections::BTreeSet;
use std::fmt;

/// How deep objects and arrays may nest.
const DEPTH: usize = 32;

/// The value of JSON whose strings and numbers are spelled as the RFC spells them, in which
/// no object has a member twice or in two cases, and which nests at most 32 deep. White
/// space and the order of members are free.
pub(crate) fn read(json: &str) -> Result<Value, String> {
    let ordered: Ordered = serde_json::from_str(json).map_err(|e| e.to_string())?;
    let value = ordered.value(0)?;
    if ordered.text() != without_space(json) {
        return Err("a string or a number must be spelled as RFC 8785 does".into());
    }
    Ok(value)
}

/// JSON with its members in their order.
enum Ordered {
    Object(Vec<(String, Ordered)>),
    Array(Vec<Ordered>),
    Other(Value),
}

impl Ordered {
    fn value(&self, depth: usize) -> Result<Value, String> {
        if depth >= DEPTH && !matches!(self, Ordered::Other(_)) {
            return Err(format!("must nest at most {DEPTH} deep"));
        }
        Ok(match self {
            Ordered::Object(members) => {
                let (mut names, mut all) = (BTreeSet::new(), Map::new());
                for (name, value) in members {
                    if !names.insert(fold(name)) {
                        return Err(format!("member {name:?} is there twice, or in two cases"));
                    }
                    all.insert(name.clone(), value.value(depth + 1)?);
                }
                Value::Object(all)
            }
            Ordered::Array(elements) => {
                let all = elements.iter().map(|e| e.value(depth + 1));
                Value::Array(all.collect::<Result<_, _>>()?)
            }
            Ordered::Other(value) => value.clone(),
        })
    }

    fn text(&self) -> String {
        match self {
            Ordered::Object(members) => {
                let all = members.iter().map(|(name, value)| {
                    format!("{}:{}", Value::from(name.as_str()), value.text())
                });
                format!("{{{}}}", all.collect::<Vec<_>>().join(","))
            }
            Ordered::Array(elements) => {
                let all: Vec<_> = elements.iter().map(Ordered::text).collect();
                format!("[{}]", all.join(","))
            }
            Ordered::Other(value) => text(value),
        }
    }
}

/// Equal for names that differ in case alone, letter by letter (Unicode's simple folding).
fn fold(name: &str) -> String {
    fn alone(mut letters: impl Iterator<Item = char>, letter: char) -> char {
        match (letters.next(), letters.next()) {
            (Some(one), None) => one,
            _ => letter,
        }
    }
    let each = |letter: char| match letter {
        '\u{131}' => letter, // its capital is I, and it is no i
        _ => {
            let upper = alone(letter.to_uppercase(), letter);
            alone(upper.to_lowercase(), upper)
        }
    };
    name.chars().map(each).collect()
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Ordered;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Ordered, E> {
                Ok(Ordered::Other(Value::Null))
            }
            fn visit_bool<E>(self, v: bool) -> Result<Ordered, E> {
                Ok(Ordered::Other(v.into()))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Ordered, E> {
                Ok(Ordered::Other(v.into()))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Ordered, E> {
                Ok(Ordered::Other(v.into()))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Ordered, E> {
                Ok(Ordered::Other(v.into()))
            }
            fn visit_str<E>(self, v: &str) -> Result<Ordered, E> {
                Ok(Ordered::Other(v.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ordered, A::Error> {
                let mut all = Vec::new();
                while let Some(element) = seq.next_element()? {
                    all.push(element);
                }
                Ok(Ordered::Array(all))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut all = Vec::new();
                while let Some(member) = map.next_entry()? {
                    all.push(member);
                }
                Ok(Ordered::Object(all))
            }
        }
        from.deserialize_any(Any)
    }
}

/// The canonical form of a value.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut keys: Vec<_> = members.iter().collect();
            // By UTF-16 code units (section 3.2.3).
            keys.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            let all = keys
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), text(value)));
            format!("{{{}}}", all.collect::<Vec<_>>().join(","))
        }
        Value::Array(elements) => {
            let all: Vec<_> = elements.iter().map(text).collect();
            format!("[{}]", all.join(","))
        }
        Value::Number(n) => number(n),
        // serde_json escapes the same characters as the RFC, in the same way.
        other => other.to_string(),
    }
}

/// As ECMAScript writes a double (section 3.2.2.3).
fn number(n: &Number) -> String {
    let value = n.as_f64().unwrap_or_default();
    if value == 0.0 {
        return "0".into();
    }
    // serde_json finds the fewest digits; of two values equally near it takes the even
    // one.
    let shortest = Number::from_f64(value.abs()).map_or(String::new(), |n| n.to_string());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    // The position of the decimal point, from the first digit.
    let point = exponent.parse().unwrap_or(0) + digits.len() as i32 - fraction.len() as i32;
    let digits = digits.trim_end_matches('0');
    let sign = if value < 0.0 { "-" } else { "" };
    let text = match point {
        1..=21 if digits.len() > point as usize => {
            let (whole, fraction) = digits.split_at(point as usize);
            format!("{whole}.{fraction}")
        }
        1..=21 => format!("{digits:0<width$}", width = point as usize),
        -5..=0 => format!("0.{}{digits}", "0".repeat(-point as usize)),
        _ if digits.len() == 1 => format!("{digits}e{:+}", point - 1),
        _ => format!("{}.{}e{:+}", &digits[..1], &digits[1..], point - 1),
    };
    format!("{sign}{text}")
}

/// JSON without white space between its tokens.
pub(crate) fn without_space(json: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    let keep = |c: &char| {
        let space = !inside && matches!(c, ' ' | '\t' | '\r' | '\n');
        if *c == '"' && !escaped {
            inside = !inside;
        }
        escaped = inside && *c == '\\' && !escaped;
        !space
    };
    json.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_rfc_8785_appendix_b() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (9007199254740992.0, "9007199254740992"),
            (295147905179352830000.0, "295147905179352830000"),
            (9.999999999999997e22, "9.999999999999997e+22"),
            (1e23, "1e+23"),
            (1e21, "1e+21"),
            (999999999999999900000.0, "999999999999999900000"),
            (9.999999999999997e-7, "9.999999999999997e-7"),
            (0.000001, "0.000001"),
            (333333333.3333332, "333333333.3333332"),
            (-0.0000033333333333333333, "-0.0000033333333333333333"),
            (1424953923781206.2, "1424953923781206.2"),
            (7.0, "7"),
        ] {
            assert_eq!(text(&Value::from(value)), expected);
        }
    }

    #[test]
    fn order_is_that_of_utf_16() {
        let value: Value =
            serde_json::from_str(r#"{"\ufb33":1,"\ud83d\ude00":2,"\r":3,"1":4,"\u20ac":5}"#)
                .unwrap();
        assert_eq!(
            text(&value),
            "{\"\\r\":3,\"1\":4,\"€\":5,\"😀\":2,\"\u{fb33}\":1}"
        );
    }

    #[test]
    fn space_in_strings_stays() {
        assert_eq!(
            without_space("{ \"a \\\" \" :\n[1, 2]}"),
            "{\"a \\\" \":[1,2]}"
        );
    }
}
