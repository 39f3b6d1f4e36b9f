//! XML as `toXML` and `--xml` write it.

use std::fmt::Write;

/// Writes elements, two spaces a level.
#[derive(Debug)]
pub struct XmlWriter {
    out: Vec<u8>,
    depth: usize,
}

impl Default for XmlWriter {
    fn default() -> Self {
        let mut writer = XmlWriter { out: b"<?xml version='1.0' encoding='utf-8'?>\n".to_vec(), depth: 0 };
        writer.open("expr", &[]);
        writer
    }
}

impl XmlWriter {
    /// Opens an element; attributes are in their order.
    pub fn open(&mut self, tag: &str, attributes: &[(&str, &[u8])]) {
        self.start(tag, attributes);
        self.out.extend_from_slice(b">\n");
        self.depth += 1;
    }

    /// Closes the innermost element, which is called `tag`.
    pub fn close(&mut self, tag: &str) {
        self.depth -= 1;
        self.indent();
        self.out.extend_from_slice(b"</");
        self.out.extend_from_slice(tag.as_bytes());
        self.out.extend_from_slice(b">\n");
    }

    /// Writes an element without content.
    pub fn empty(&mut self, tag: &str, attributes: &[(&str, &[u8])]) {
        self.start(tag, attributes);
        self.out.extend_from_slice(b" />\n");
    }

    /// Ends the document.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.close("expr");
        self.out
    }

    fn indent(&mut self) {
        self.out.resize(self.out.len() + 2 * self.depth, b' ');
    }

    fn start(&mut self, tag: &str, attributes: &[(&str, &[u8])]) {
        self.indent();
        self.out.push(b'<');
        self.out.extend_from_slice(tag.as_bytes());
        for (name, value) in attributes {
            let mut head = String::new();
            write!(head, " {name}=\"").expect("writing to a string does not fail");
            self.out.extend_from_slice(head.as_bytes());
            self.escaped(value);
            self.out.push(b'"');
        }
    }

    fn escaped(&mut self, text: &[u8]) {
        for &byte in text {
            match byte {
                b'"' => self.out.extend_from_slice(b"&quot;"),
                b'<' => self.out.extend_from_slice(b"&lt;"),
                b'>' => self.out.extend_from_slice(b"&gt;"),
                b'&' => self.out.extend_from_slice(b"&amp;"),
                // A reader would make a space of it.
                b'\n' => self.out.extend_from_slice(b"&#xA;"),
                byte => self.out.push(byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_nest_and_text_is_escaped() {
        let mut xml = XmlWriter::default();
        xml.open("list", &[]);
        xml.empty("string", &[("value", b"a\n<\"&\">\t")]);
        xml.close("list");
        assert_eq!(
            String::from_utf8(xml.finish()).unwrap(),
            "<?xml version='1.0' encoding='utf-8'?>\n<expr>\n  <list>\n    \
             <string value=\"a&#xA;&lt;&quot;&amp;&quot;&gt;\t\" />\n  </list>\n</expr>\n"
        );
    }
}
