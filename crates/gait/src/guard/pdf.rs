//! Text on pages, as PDF 1.4: one font, no compression, the same bytes for the same text.

/// A4, in points.
const PAGE: (u32, u32) = (595, 842);
const MARGIN: u32 = 50;
const SIZE: u32 = 9;
const LEADING: u32 = 13;
/// Lines of a page.
const LINES: usize = ((PAGE.1 - 2 * MARGIN) / LEADING) as usize;
/// Characters of a line: what fits between the margins in Courier, whose characters are 0.6 of their size wide.
const COLUMNS: usize = ((PAGE.0 - 2 * MARGIN) * 10 / (SIZE * 6)) as usize;

/// A document with these lines; long ones are continued on the next.
pub(super) fn render(lines: &[String]) -> Vec<u8> {
    let wrapped: Vec<String> = lines.iter().flat_map(|line| wrap(line)).collect();
    let pages: Vec<&[String]> = wrapped.chunks(LINES).collect();
    let kids: Vec<String> = (0..pages.len())
        .map(|page| format!("{} 0 R", 4 + 2 * page))
        .collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!(
            "<< /Type /Pages /Kids [{}] /Count {} >>",
            kids.join(" "),
            pages.len()
        ),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Courier >>".to_owned(),
    ];
    for (index, page) in pages.iter().enumerate() {
        let (width, height) = PAGE;
        let stream = text(page);
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Contents {} 0 R \
             /Resources << /Font << /F1 3 0 R >> >> >>",
            5 + 2 * index
        ));
        objects.push(format!(
            "<< /Length {} >>\nstream\n{stream}\nendstream",
            stream.len()
        ));
    }
    document(&objects)
}

fn document(objects: &[String]) -> Vec<u8> {
    let mut body = String::from("%PDF-1.4\n");
    let mut table = String::from("0000000000 65535 f \n");
    for (index, object) in objects.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", body.len()));
        body.push_str(&format!("{} 0 obj\n{object}\nendobj\n", index + 1));
    }
    let (start, size) = (body.len(), objects.len() + 1);
    body.push_str(&format!(
        "xref\n0 {size}\n{table}trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    ));
    body.into_bytes()
}

fn text(lines: &[String]) -> String {
    let top = PAGE.1 - MARGIN;
    let mut stream = format!("BT\n/F1 {SIZE} Tf\n{LEADING} TL\n{MARGIN} {top} Td\n");
    for line in lines {
        stream.push_str(&format!("({}) Tj T*\n", escaped(line)));
    }
    stream.push_str("ET");
    stream
}

fn wrap(line: &str) -> Vec<String> {
    let characters: Vec<char> = line.chars().collect();
    match characters.is_empty() {
        true => vec![String::new()],
        false => characters
            .chunks(COLUMNS)
            .map(|chunk| chunk.iter().collect())
            .collect(),
    }
}

/// What the font has no sign for is shown as `?`, so that nothing is left out unseen.
fn escaped(line: &str) -> String {
    let mut text = String::new();
    for character in line.chars() {
        match character {
            '\\' | '(' | ')' => text.extend(['\\', character]),
            ' '..='~' => text.push(character),
            _ => text.push('?'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_points_at_every_object_and_the_end_at_the_table() {
        let lines: Vec<String> = (0..LINES * 2 + 1)
            .map(|line| format!("line {line}"))
            .collect();
        let pdf = String::from_utf8(render(&lines)).unwrap();
        assert!(pdf.contains("/Count 3"));
        let start: usize = pdf
            .rsplit("startxref\n")
            .next()
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let table = &pdf[start..];
        assert!(table.starts_with("xref\n0 10\n"));
        for (index, entry) in table.lines().skip(3).take(9).enumerate() {
            let offset: usize = entry[..10].parse().unwrap();
            assert!(
                pdf[offset..].starts_with(&format!("{} 0 obj\n", index + 1)),
                "{entry}"
            );
        }
    }

    #[test]
    fn a_stream_is_as_long_as_it_says() {
        let pdf = String::from_utf8(render(&["a (b) \\ c".to_owned(), String::new()])).unwrap();
        let (_, rest) = pdf.split_once("<< /Length ").unwrap();
        let (length, rest) = rest.split_once(" >>\nstream\n").unwrap();
        let (stream, _) = rest.split_once("\nendstream").unwrap();
        assert_eq!(stream.len().to_string(), length);
        assert!(stream.contains("(a \\(b\\) \\\\ c) Tj"));
    }

    #[test]
    fn text_can_neither_leave_its_string_nor_vanish() {
        assert_eq!(escaped(") Tj ET endstream"), "\\) Tj ET endstream");
        assert_eq!(escaped("é\n\u{202e}x"), "???x");
        assert_eq!(
            wrap(&"x".repeat(COLUMNS + 1)),
            ["x".repeat(COLUMNS), "x".to_owned()]
        );
    }
}
