//! A scanner of Rust source, as far as tidiness needs it: no parser, but it knows comments, strings,
//! paths, `use` groups, test code and where a function ends.

/// One token of product code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// From 1.
    pub line: usize,
    /// An identifier, `::`, or one other character.
    pub text: String,
}

/// A path such as `crate::wire::pb::Frame`, groups taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodePath {
    /// From 1.
    pub line: usize,
    /// Between the `::`.
    pub segments: Vec<String>,
    /// Modules written out in the file around it.
    pub inline_depth: usize,
}

/// A function and the lines of code it takes, its head included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Of its name, from 1.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// Lines that hold code.
    pub code_lines: usize,
}

/// Tokens of a source file without comments, contents of strings, and items under `#[cfg(test)]`.
pub fn product_tokens(source: &str) -> Vec<Token> {
    without_test_items(&tokens(source))
}

/// Tokens of a source file without comments and contents of strings.
pub fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let end = token_end(&chars, at);
        let first = chars[at];
        let is_text = matches!(first, '"' | '\'' | '/') && end > at + 1 || is_raw_string(&chars, at);
        if is_text {
            // A literal counts as code on each line it takes, a comment on none.
            if first != '/' {
                let lines = chars[at..end].iter().filter(|c| **c == '\n').count();
                tokens.extend((line..=line + lines).map(|line| Token { line, text: "\"".to_owned() }));
            }
        } else if !first.is_whitespace() {
            tokens.push(Token { line, text: chars[at..end].iter().collect() });
        }
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    tokens
}

/// Number of lines that hold at least one of the tokens.
pub fn code_lines(tokens: &[Token]) -> usize {
    let mut lines: Vec<usize> = tokens.iter().map(|token| token.line).collect();
    lines.dedup();
    lines.len()
}

/// Every path of two segments or more; a `use` group gives one path for each of its leaves.
pub fn paths(tokens: &[Token]) -> Vec<CodePath> {
    let mut paths: Vec<CodePath> = Vec::new();
    let mut braces = 0usize;
    let mut inline_modules = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let known = paths.len();
        match &*tokens[at].text {
            "mod" if tokens.get(at + 2).is_some_and(|token| token.text == "{") => {
                inline_modules.push(braces);
                at += 2;
            }
            "{" => {
                braces += 1;
                at += 1;
            }
            "}" => {
                braces = braces.saturating_sub(1);
                inline_modules.pop_if(|before| *before == braces);
                at += 1;
            }
            text if is_ident(text) => at = path(tokens, at, &[], &mut paths),
            _ => at += 1,
        }
        for path in &mut paths[known..] {
            path.inline_depth = inline_modules.len();
        }
    }
    paths.retain(|path| path.segments.len() > 1);
    paths
}

/// Every function that has a body.
pub fn functions(tokens: &[Token]) -> Vec<Function> {
    let mut functions = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        if pair[0].text != "fn" || !is_ident(&pair[1].text) {
            continue;
        }
        let end = item_end(tokens, at);
        if tokens[end - 1].text == "}" {
            let code_lines = code_lines(&tokens[at..end]);
            functions.push(Function { line: pair[1].line, name: pair[1].text.clone(), code_lines });
        }
    }
    functions
}

/// Lines on which `words` stand as consecutive tokens.
pub fn lines_with(tokens: &[Token], words: &[&str]) -> Vec<usize> {
    tokens
        .windows(words.len())
        .filter(|window| window.iter().map(|token| &*token.text).eq(words.iter().copied()))
        .map(|window| window[0].line)
        .collect()
}

/// Reads one path from `at`, which is an identifier, and returns where it ends.
fn path(tokens: &[Token], at: usize, before: &[String], paths: &mut Vec<CodePath>) -> usize {
    let line = tokens[at].line;
    let mut segments = before.to_vec();
    segments.push(tokens[at].text.clone());
    let mut at = at + 1;
    while tokens.get(at).is_some_and(|token| token.text == "::") {
        let Some(next) = tokens.get(at + 1) else { break };
        if next.text == "{" {
            return group(tokens, at + 2, &segments, paths);
        }
        if !is_ident(&next.text) && next.text != "*" {
            break;
        }
        segments.push(next.text.clone());
        at += 2;
    }
    paths.push(CodePath { line, segments, inline_depth: 0 });
    at
}

/// Reads the inside of a `use` group from `at`, and returns where it ends.
fn group(tokens: &[Token], mut at: usize, before: &[String], paths: &mut Vec<CodePath>) -> usize {
    while let Some(token) = tokens.get(at) {
        match &*token.text {
            "}" => return at + 1,
            "self" | "*" => {
                paths.push(CodePath { line: token.line, segments: before.to_vec(), inline_depth: 0 });
                at += 1;
            }
            "as" => at += 2,
            text if is_ident(text) => at = path(tokens, at, before, paths),
            _ => at += 1,
        }
    }
    at
}

fn without_test_items(tokens: &[Token]) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let here = tokens[at..].iter().map(|token| &*token.text);
        if here.take(MARK.len()).eq(MARK) {
            at = item_end(tokens, at + MARK.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Where the item that starts at `at` ends: behind its first `;` outside of brackets, or its braces.
fn item_end(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0usize;
    for (offset, token) in tokens[at..].iter().enumerate() {
        match &*token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token.text == "}" {
                    return at + offset + 1;
                }
            }
            ";" if depth == 0 => return at + offset + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Where the token, comment, literal or run of blanks at `at` ends.
fn token_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1);
    match chars[at] {
        '/' if next == Some(&'/') => until(chars, at, |c| c == '\n'),
        '/' if next == Some(&'*') => block_comment_end(chars, at),
        '"' => quoted_end(chars, at + 1, '"'),
        'r' | 'b' | 'c' if is_raw_string(chars, at) => raw_string_end(chars, at),
        '\'' => char_end(chars, at),
        ':' if next == Some(&':') => at + 2,
        c if is_ident_char(c) => until(chars, at, |c| !is_ident_char(c)),
        c if c.is_whitespace() => until(chars, at, |c| !c.is_whitespace()),
        _ => at + 1,
    }
}

fn until(chars: &[char], at: usize, stop: impl Fn(char) -> bool) -> usize {
    chars[at..].iter().position(|c| stop(*c)).map_or(chars.len(), |length| at + length)
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0usize;
    let mut here = at;
    while here + 1 < chars.len() {
        match (chars[here], chars[here + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                here += 1;
                continue;
            }
        }
        here += 2;
        if depth == 0 {
            return here;
        }
    }
    chars.len()
}

fn quoted_end(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// A character literal, or else a lifetime, which ends where its name does.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) | (_, Some('\'')) => quoted_end(chars, at + 1, '\''),
        _ => at + 1,
    }
}

/// Whether `r"`, `r#"`, `br"`, `cr"` starts here, and not an identifier such as `r#type`.
fn is_raw_string(chars: &[char], at: usize) -> bool {
    let after_prefix = match (chars[at], chars.get(at + 1)) {
        ('r', _) => at + 1,
        ('b' | 'c', Some('r')) => at + 2,
        _ => return false,
    };
    chars.get(until(chars, after_prefix.min(chars.len()), |c| c != '#')) == Some(&'"')
}

fn raw_string_end(chars: &[char], at: usize) -> usize {
    let hashes_start = until(chars, at, |c| c == '#' || c == '"');
    let open = until(chars, hashes_start, |c| c == '"');
    let hashes = open - hashes_start;
    let closes = |from: usize| {
        chars[from] == '"' && chars[from + 1..].iter().take_while(|c| **c == '#').count() >= hashes
    };
    (open + 1..chars.len()).find(|from| closes(*from)).map_or(chars.len(), |from| from + 1 + hashes)
}

fn is_ident(text: &str) -> bool {
    text.chars().all(is_ident_char) && !text.starts_with(|c: char| c.is_ascii_digit())
}

fn is_ident_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_texts(source: &str) -> Vec<String> {
        paths(&product_tokens(source)).iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn groups_are_taken_apart_to_their_leaves() {
        let source = "use crate::{batch::{self, Proof as P}, limits, wire::pb::*};\nfn f() { std::fs::read(a::<T>()); }";
        assert_eq!(
            path_texts(source),
            ["crate::batch", "crate::batch::Proof", "crate::limits", "crate::wire::pb::*", "std::fs::read"]
        );
    }

    #[test]
    fn a_path_knows_the_modules_around_it_in_its_file() {
        let tokens = tokens("mod a { mod b { use super::super::c; } fn f() { super::g() } }\nuse super::h;");
        let depths: Vec<usize> = paths(&tokens).iter().map(|path| path.inline_depth).collect();
        assert_eq!(depths, [2, 1, 0]);
    }

    #[test]
    fn comments_strings_and_characters_hide_what_is_in_them() {
        let source = concat!(
            "// crate::a::b\n/* crate::c /* crate::d */ crate::e */\nlet x = \"crate::f \\\" crate::g\";\n",
            "let y = r#\"crate::h\"crate::i\"#; let z = ('\"', '\\'', b'x'); fn g<'a>(t: &'a crate::j::K) {}"
        );
        assert_eq!(path_texts(source), ["crate::j::K"]);
    }

    #[test]
    fn items_under_cfg_test_are_left_out_and_what_follows_is_not() {
        let source = concat!(
            "#[cfg(test)]\nmod tests;\n#[cfg(test)]\nuse crate::a::B;\n",
            "#[cfg(test)]\nmod more { fn f() { crate::c::d(); } }\nuse crate::e::F;"
        );
        assert_eq!(path_texts(source), ["crate::e::F"]);
    }

    #[test]
    fn only_lines_with_code_count() {
        let source = "// why\nfn f() {\n\n    // why\n    let a = \"one\n    two\";\n}\n/// Doc.\nfn g(); // no body\n";
        let tokens = product_tokens(source);
        assert_eq!(code_lines(&tokens), 5);
        let f = Function { line: 2, name: "f".to_owned(), code_lines: 4 };
        assert_eq!(functions(&tokens), [f]);
    }

    #[test]
    fn a_function_ends_at_its_own_brace() {
        let source = "fn f(a: [u8; 2]) -> u8 {\n    if a[0] == 1 { g() }\n    0\n}\nfn g() {\n}\n";
        let lengths: Vec<usize> = functions(&tokens(source)).iter().map(|f| f.code_lines).collect();
        assert_eq!(lengths, [4, 2]);
    }

    #[test]
    fn words_are_found_as_tokens_and_not_inside_others() {
        let tokens = product_tokens("let a = b.unwrap();\nlet c = d.unwrap_or(e);\n// f.unwrap()\n");
        assert_eq!(lines_with(&tokens, &[".", "unwrap", "("]), [1]);
    }
}
