//! Resource quantities, as Kubernetes parses, compares and prints them.
//!
//! The rules are those of `k8s.io/apimachinery/pkg/api/resource` (`quantity.go`, `suffix.go`,
//! `math.go`). A quantity is an exact whole number of nano-units in 128 bits and never a float.
//! Where upstream goes on without bound or loses digits, this differs, and fails closed:
//! - a number of more than 1.7e29 is refused (upstream keeps any size);
//! - a decimal number above 999E prints as many `E` (upstream drops the suffix, and so the size).

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// Nano-units in one unit.
const NANO: i128 = 1_000_000_000;
/// The greatest amount written with a binary suffix: 2^63 - 1 units.
const BINARY_MAX: i128 = i64::MAX as i128 * NANO;
/// Longest text that is read; no meaningful quantity comes near.
const MAX_TEXT: usize = 256;

/// Why a text is not a quantity. The sentences are upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not a number with a suffix.
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// The number is greater than 128 bits of nano-units hold, or too long to read.
    #[error("unable to parse numeric part of quantity")]
    Number,
    /// The suffix is unknown.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The family of suffixes that a quantity is printed with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// `n`, `u`, `m`, none, `k`, `M`, `G`, `T`, `P`, `E`.
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, `Gi`, `Ti`, `Pi`, `Ei`.
    BinarySi,
    /// `e3`, `e6`, `e-3`, …
    DecimalExponent,
}

/// An amount of a resource. Two quantities are equal where their values are: `1` equals `1000m`.
#[derive(Clone, Default)]
pub struct Quantity {
    nano: i128,
    format: Format,
    /// The text as it was read, where upstream prints that and it is not canonical (`+1`, `1.500`).
    written: Option<Box<str>>,
}

impl Quantity {
    /// A whole number of units.
    pub fn new(value: i64, format: Format) -> Self {
        Self::from_nano(i128::from(value) * NANO, format)
    }

    /// A number of thousandths, decimal.
    pub fn from_milli(milli: i64) -> Self {
        Self::from_nano(i128::from(milli) * (NANO / 1000), Format::DecimalSi)
    }

    /// A number of nano-units.
    pub fn from_nano(nano: i128, format: Format) -> Self {
        Self {
            nano,
            format,
            written: None,
        }
    }

    /// The exact value in nano-units.
    pub fn nano(&self) -> i128 {
        self.nano
    }

    /// The family of suffixes that it is printed with.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whole units, rounded away from zero; held at the bounds of 64 bits.
    pub fn value(&self) -> i64 {
        saturate(div_away(self.nano, NANO))
    }

    /// Thousandths, rounded away from zero; held at the bounds of 64 bits.
    pub fn milli_value(&self) -> i64 {
        saturate(div_away(self.nano, NANO / 1000))
    }

    /// Rounded away from zero to thousandths, as the API server's defaulting stores every amount of
    /// a resource.
    #[must_use]
    pub fn rounded_to_milli(&self) -> Self {
        const MILLI: i128 = NANO / 1000;
        if self.nano % MILLI == 0 {
            return self.clone();
        }
        Self::from_nano(div_away(self.nano, MILLI).saturating_mul(MILLI), self.format)
    }

    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nano.signum() as i32
    }

    /// The sum, or `None` beyond 128 bits. Zero takes over the other's format, as upstream does.
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        Some(Self::from_nano(
            self.nano.checked_add(other.nano)?,
            self.format_with(other),
        ))
    }

    /// The sum, held at the bounds of 128 bits. For totals of hostile input: a total at the bound
    /// is still greater than every limit.
    pub fn saturating_add(&self, other: &Self) -> Self {
        Self::from_nano(
            self.nano.saturating_add(other.nano),
            self.format_with(other),
        )
    }

    /// The difference, or `None` beyond 128 bits.
    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        Some(Self::from_nano(
            self.nano.checked_sub(other.nano)?,
            self.format_with(other),
        ))
    }

    /// The product with a whole number, or `None` beyond 128 bits.
    pub fn checked_mul(&self, factor: i64) -> Option<Self> {
        Some(Self::from_nano(
            self.nano.checked_mul(i128::from(factor))?,
            self.format,
        ))
    }

    fn format_with(&self, other: &Self) -> Format {
        if self.is_zero() {
            other.format
        } else {
            self.format
        }
    }

    /// The canonical text: no fraction, no plus sign, the greatest suffix that loses nothing.
    fn canonical(&self) -> String {
        if self.is_zero() {
            return "0".to_string();
        }
        let whole = self.nano / NANO;
        let binary =
            self.format == Format::BinarySi && self.nano % NANO == 0 && whole.abs() >= 1024;
        if binary {
            let (number, exponent) = remove_factors(whole, 1024, 6);
            return format!("{number}{}", BINARY_SUFFIXES[exponent]);
        }
        // Beyond exa there is no suffix; an exponent has no bound.
        let most = if self.format == Format::DecimalExponent {
            38
        } else {
            27
        };
        let (number, tens) = remove_factors(self.nano, 10, most);
        // The exponent must be a multiple of three: give back what is over.
        let over = tens % 3;
        let number = number * 10_i128.pow(over as u32);
        let thousands = (tens - over) / 3;
        if self.format == Format::DecimalExponent {
            let exponent = thousands as i32 * 3 - 9;
            return if exponent == 0 {
                number.to_string()
            } else {
                format!("{number}e{exponent}")
            };
        }
        format!("{number}{}", DECIMAL_SUFFIXES[thousands])
    }
}

const BINARY_SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// By thousands, from nano upwards.
const DECIMAL_SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

fn saturate(value: i128) -> i64 {
    value.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

fn div_away(value: i128, divisor: i128) -> i128 {
    value / divisor
        + if value % divisor == 0 {
            0
        } else {
            value.signum()
        }
}

/// Divides `value` by `factor` as often as it leaves no rest, at most `most` times.
fn remove_factors(mut value: i128, factor: i128, most: usize) -> (i128, usize) {
    let mut times = 0;
    while times < most && value % factor == 0 {
        value /= factor;
        times += 1;
    }
    (value, times)
}

/// A text taken apart: sign, digits before and after the point, suffix.
struct Parts<'a> {
    negative: bool,
    num: &'a str,
    denom: &'a str,
    suffix: Suffix,
}

/// The power that a suffix stands for.
#[derive(Clone, Copy)]
enum Suffix {
    /// Power of ten, with the format that it is printed in.
    Decimal(i64, Format),
    /// Power of two.
    Binary(u32),
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_TEXT {
            return Err(ParseError::Number);
        }
        let parts = split(text)?;
        let (magnitude, format) = match parts.suffix {
            Suffix::Decimal(exponent, format) => (decimal(&parts, exponent)?, format),
            Suffix::Binary(exponent) => {
                let nano = binary(&parts, exponent);
                // Less than one unit would have no binary suffix to be printed with.
                let fraction = 0 < nano && nano < NANO;
                (
                    nano,
                    if fraction {
                        Format::DecimalSi
                    } else {
                        Format::BinarySi
                    },
                )
            }
        };
        let nano = if parts.negative {
            -magnitude
        } else {
            magnitude
        };
        let mut quantity = Self::from_nano(nano, format);
        if keeps_text(&parts) && quantity.canonical() != text {
            quantity.written = Some(text.into());
        }
        Ok(quantity)
    }
}

fn split(text: &str) -> Result<Parts<'_>, ParseError> {
    if text.is_empty() {
        return Err(ParseError::Format);
    }
    let (negative, rest) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let rest = rest.trim_start_matches('0');
    let (num, rest) = split_digits(rest);
    let (denom, rest) = match rest.strip_prefix('.') {
        Some(rest) => split_digits(rest),
        None => ("", rest),
    };
    // The shape of the suffix is checked first, then whether it is known.
    let tail = rest.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let tail = tail.strip_prefix(['+', '-']).unwrap_or(tail);
    if !split_digits(tail).1.is_empty() {
        return Err(ParseError::Format);
    }
    let suffix = interpret(rest).ok_or(ParseError::Suffix)?;
    Ok(Parts {
        negative,
        num: if num.is_empty() { "0" } else { num },
        denom,
        suffix,
    })
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

fn interpret(suffix: &str) -> Option<Suffix> {
    if let Some(at) = DECIMAL_SUFFIXES.iter().position(|s| *s == suffix) {
        return Some(Suffix::Decimal(at as i64 * 3 - 9, Format::DecimalSi));
    }
    if let Some(at) = BINARY_SUFFIXES.iter().position(|s| *s == suffix) {
        return Some(Suffix::Binary(at as u32 * 10));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    Some(Suffix::Decimal(
        exponent.parse().ok()?,
        Format::DecimalExponent,
    ))
}

/// The digits times ten to the exponent, in nano-units, rounded up to the next whole one.
fn decimal(parts: &Parts<'_>, exponent: i64) -> Result<i128, ParseError> {
    let digits = format!("{}{}", parts.num, parts.denom);
    let significant = digits.trim_end_matches('0');
    let dropped = (digits.len() - significant.len()) as i64;
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let shift = exponent
        .saturating_add(9)
        .saturating_sub(parts.denom.len() as i64)
        .saturating_add(dropped);
    let read = |digits: &str| digits.parse::<i128>().map_err(|_| ParseError::Number);
    if shift >= 0 {
        let power = u32::try_from(shift)
            .ok()
            .and_then(|s| 10_i128.checked_pow(s))
            .ok_or(ParseError::Number)?;
        return read(significant)?
            .checked_mul(power)
            .ok_or(ParseError::Number);
    }
    let below = usize::try_from(shift.unsigned_abs()).unwrap_or(usize::MAX);
    match significant.len().checked_sub(below) {
        // The last significant digit is not zero, so what is cut off always rounds up.
        Some(kept) if kept > 0 => read(&significant[..kept])?
            .checked_add(1)
            .ok_or(ParseError::Number),
        _ => Ok(1),
    }
}

/// The digits times two to the exponent, in nano-units, rounded up and held at 2^63 - 1 units.
fn binary(parts: &Parts<'_>, exponent: u32) -> i128 {
    let unit = NANO << exponent;
    let whole = parts
        .num
        .parse::<i128>()
        .ok()
        .and_then(|n| n.checked_mul(unit))
        .unwrap_or(BINARY_MAX);
    // Horner from the last digit; dropping the rest at each step equals dropping it at the end.
    let (mut fraction, mut rest) = (0_i128, false);
    for digit in parts.denom.bytes().rev() {
        let scaled = i128::from(digit - b'0') * unit + fraction;
        fraction = scaled / 10;
        rest |= scaled % 10 != 0;
    }
    whole
        .saturating_add(fraction + i128::from(rest))
        .min(BINARY_MAX)
}

/// Whether upstream's fast path takes this text for canonical and prints it unchanged. Its check
/// looks at the trailing digits only, so that it lets signs, zeros in front and `1.500` pass.
fn keeps_text(parts: &Parts<'_>) -> bool {
    let digits = parts.num.len() + parts.denom.len();
    match parts.suffix {
        Suffix::Decimal(exponent, _) => {
            let scale = exponent.saturating_sub(parts.denom.len() as i64);
            let last = format!("{}{}", parts.num, parts.denom);
            digits <= 18
                && scale >= -9
                && scale % 3 == 0
                && !last.ends_with("000")
                && !last.starts_with('0')
        }
        Suffix::Binary(exponent) => {
            let room = 14 - digits as i64 - i64::from(exponent) * 3 / 10;
            let odd = parts.num.parse::<i64>().is_ok_and(|n| n % 8 != 0);
            parts.denom.is_empty() && room >= 0 && odd
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.written {
            Some(text) => f.pad(text),
            None => f.pad(&self.canonical()),
        }
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quantity({self})")
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nano.hash(state);
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(Visitor)
        } else {
            deserializer.deserialize_str(Visitor)
        }
    }
}

/// Reads a quantity from a text or a number.
struct Visitor;

impl serde::de::Visitor<'_> for Visitor {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a quantity such as 500m, 1.5, 64Mi or 1e3, as text or number")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Quantity, E> {
        text.trim().parse().map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Quantity, E> {
        Ok(Quantity::new(value, Format::DecimalSi))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Quantity, E> {
        Ok(Quantity::from_nano(
            i128::from(value) * NANO,
            Format::DecimalSi,
        ))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Quantity, E> {
        // The shortest text that reads back as this number is what the user wrote, or its equal.
        self.visit_str(&value.to_string())
    }
}

#[cfg(test)]
mod tests;
