//! How numbers are written and rounded.
//!
//! A float has four forms, all of them the C++ library's: the printer's (`%g`), that of `toString`
//! (`%f`), that of JSON (the shortest that reads back as the same number) and that of TOML and XML,
//! which are the printer's.
//!
//! ```text
//! 0.1 + 0.2       printed 0.3     toString 0.300000     toJSON 0.30000000000000004
//! ```

mod grisu;

/// Writes a float as a printed value shows it: six significant digits, C's `%g`.
#[must_use]
pub fn print_float(value: f64) -> String {
    if !value.is_finite() {
        return not_finite(value);
    }
    const DIGITS: i32 = 6;
    let scientific = format!("{value:.*e}", DIGITS as usize - 1);
    let (mantissa, exponent) = scientific.split_once('e').expect("`e` format has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    if !(-4..DIGITS).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.abs());
    }
    let decimals = usize::try_from(DIGITS - 1 - exponent).expect("the exponent is below six");
    without_zeros(&format!("{value:.decimals$}")).to_owned()
}

/// Writes a float as `toString` does: six decimals, C's `%f`.
#[must_use]
pub fn float_to_string(value: f64) -> String {
    if !value.is_finite() {
        return not_finite(value);
    }
    let Some(millionths) = millionths(value.abs()) else { return format!("{value:.6}") };
    let sign = if value.is_sign_negative() { "-" } else { "" };
    format!("{sign}{}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
}

/// Returns a positive number as millionths, rounded to even as C does, if 128 bits hold all of its digits.
///
/// Nearly all numbers of programs are such, and it is several times faster than the general way.
fn millionths(value: f64) -> Option<u64> {
    const MANTISSA_BITS: u32 = 52;
    let bits = value.to_bits();
    let exponent = u32::try_from(bits >> MANTISSA_BITS).expect("eleven bits, as the sign is not set");
    // From 2^-50 up to 2^43: the result fits in 64 bits.
    let shift = (1023 + MANTISSA_BITS).checked_sub(exponent).filter(|shift| (9..=102).contains(shift))?;
    let mantissa = u128::from(bits & ((1 << MANTISSA_BITS) - 1) | 1 << MANTISSA_BITS);
    let exact = mantissa * 1_000_000;
    let (whole, rest, half) = (exact >> shift, exact & ((1 << shift) - 1), 1u128 << (shift - 1));
    let rounded = whole + u128::from(rest > half || rest == half && whole & 1 == 1);
    u64::try_from(rounded).ok()
}

fn not_finite(value: f64) -> String {
    let sign = if value.is_sign_negative() { "-" } else { "" };
    format!("{sign}{}", if value.is_nan() { "nan" } else { "inf" })
}

fn without_zeros(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// Appends a float as JSON has it; what JSON cannot say is `null`.
pub fn json_float(value: f64, out: &mut Vec<u8>) {
    use std::io::Write;
    if !value.is_finite() {
        out.extend_from_slice(b"null");
        return;
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let value = value.abs();
    if value == 0.0 {
        out.extend_from_slice(b"0.0");
        return;
    }
    let (digits, last) = grisu::digits(value);
    let len = digits.len() as i32;
    // Digits before the point, were the number written out.
    let whole = len + last;
    let exponent = whole - 1;
    if len <= whole && whole <= 15 {
        out.extend_from_slice(&digits);
        out.resize(out.len() + (whole - len) as usize, b'0');
        out.extend_from_slice(b".0");
    } else if 0 < whole && whole <= 15 {
        let (before, after) = digits.split_at(whole as usize);
        out.extend_from_slice(before);
        out.push(b'.');
        out.extend_from_slice(after);
    } else if -4 < whole && whole <= 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + whole.unsigned_abs() as usize, b'0');
        out.extend_from_slice(&digits);
    } else {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "e{sign}{:02}", exponent.abs()).expect("writing to memory does not fail");
    }
}

/// Appends an integer in decimal.
pub fn push_int(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// Returns the integer that equals `value`, if there is one.
#[must_use]
pub fn int_of_whole_float(value: f64) -> Option<i64> {
    // 2^63 itself is the first float that is too large; -2^63 still fits.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    (-LIMIT..LIMIT).contains(&value).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_way_to_decimals_is_the_exact_one() {
        let mut number = 1u64;
        for round in 0..200_000u64 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = match round % 4 {
                0 => f64::from_bits(number),
                1 => (number >> 40) as f64 / 8192.0,
                // Halves between two results.
                2 => (number >> 44) as f64 / 2_000_000.0,
                _ => f64::from_bits(number & !(0x7ff << 52) | (number % 120 + 1023 - 60) << 52),
            };
            if value.is_finite() {
                assert_eq!(float_to_string(value), format!("{value:.6}"), "{value:e}");
            }
        }
        for value in
            [0.0, -0.0, 0.5e-6, 1.5e-6, 2.5e-6, 0.000_000_5, 1e15, 1e16, 0.1, 1.0 / 3.0, f64::MIN_POSITIVE]
        {
            assert_eq!(float_to_string(value), format!("{value:.6}"));
        }
    }

    #[test]
    fn floats_have_their_forms() {
        let check = |value: f64, printed: &str, string: &str, json: &str| {
            let mut written = Vec::new();
            json_float(value, &mut written);
            let found = (print_float(value), float_to_string(value), String::from_utf8(written).unwrap());
            assert_eq!(found, (printed.into(), string.into(), json.into()));
        };
        check(1.5, "1.5", "1.500000", "1.5");
        check(1.0, "1", "1.000000", "1.0");
        check(-0.0, "-0", "-0.000000", "-0.0");
        check(0.1, "0.1", "0.100000", "0.1");
        check(1e-7, "1e-07", "0.000000", "1e-07");
        check(123_456_789.123, "1.23457e+08", "123456789.123000", "123456789.123");
        check(1e15, "1e+15", "1000000000000000.000000", "1e+15");
        check(1e14, "1e+14", "100000000000000.000000", "100000000000000.0");
        check(999_999.5, "1e+06", "999999.500000", "999999.5");
        check(0.0001, "0.0001", "0.000100", "0.0001");
        check(0.00001, "1e-05", "0.000010", "1e-05");
        check(f64::INFINITY, "inf", "inf", "null");
        check(-f64::NAN.copysign(1.0), "-nan", "-nan", "null");
    }

    #[test]
    fn integers_are_written_whole() {
        for value in [0, 7, -1, 10, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            push_int(value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }

    #[test]
    fn whole_floats_have_an_integer_if_it_fits() {
        assert_eq!(int_of_whole_float(-9_223_372_036_854_775_808.0), Some(i64::MIN));
        assert_eq!(int_of_whole_float(9_223_372_036_854_775_808.0), None);
        assert_eq!(int_of_whole_float(f64::NAN), None);
    }
}
