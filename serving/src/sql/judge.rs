//! How long and how deep a statement may be, judged before anything that calls itself sees it.
//!
//! ```text
//!   text --bytes--> tokens --count, depth, queries, joins, statements--> parser
//! ```
//!
//! The parser, the planner, its optimiser and the release of what they make follow a statement as deep as it goes, one
//! call within the other, and a thread that has no more stack ends the process. So the depth that a text *can* have is
//! counted here in one pass over its tokens, with a list for a stack: never less than what the parser makes of it, often
//! somewhat more. What passes fits the stack of the threads that go on with it ([`STACK_BYTES`](super::threads::STACK_BYTES)).

use super::SqlError;
use datafusion::sql::sqlparser::{
    dialect::PostgreSqlDialect,
    keywords::Keyword,
    tokenizer::{Token, Tokenizer},
};

/// Most bytes of one text.
pub(super) const BYTES: usize = 256 << 10;
/// Most tokens of one text: words, numbers, signs. White space and comments are none.
pub(super) const TOKENS: usize = 12_000;
/// Most operators, and brackets around them, that can be one within the other.
pub(super) const DEPTH: usize = 600;
/// Most brackets, `case`s and subqueries that can be one within the other.
pub(super) const NESTED: usize = 16;
/// Most tokens the parser may look at. It tries what is in a bracket as one thing and then as another (an argument as a
/// named one first, what stands in a `from` as a query first), so that it looks at a token twice for each bracket around it,
/// four times within two, and so on: thirty calls within each other would keep it for years, and nothing ends it.
pub(super) const LOOKS: usize = 400_000;
/// Most queries: each `select`, `values` and `table`.
pub(super) const QUERIES: usize = 100;
/// Most `join`s.
pub(super) const JOINS: usize = 48;
/// Most statements in one text.
pub(super) const STATEMENTS: usize = 100;

/// Whether `sql` is within what the rest can follow; if so, how many tokens it has.
///
/// # Errors
///
/// It is too long, too deep or asks too much at once; the limit is named. Or it is no SQL.
pub(super) fn judge(sql: &str) -> Result<usize, SqlError> {
    if sql.len() > BYTES {
        return Err(too_long(format!("{} bytes", sql.len()), format!("{BYTES} bytes")));
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .tokenize()
        .map_err(|error| SqlError::Syntax(error.to_string()))?;
    let mut seen = Seen::default();
    let tokens = tokens
        .iter()
        .filter(|token| !matches!(token, Token::Whitespace(_)));
    for token in tokens {
        seen.token(token)?;
    }
    Ok(seen.tokens)
}

fn too_long(what: String, most: String) -> SqlError {
    SqlError::TooComplex {
        state: "54000",
        message: format!("the statement is too long: {what}, and it may have {most}; ask for less at a time"),
    }
}

fn too_complex(what: &str, most: usize) -> SqlError {
    SqlError::TooComplex {
        state: "54001",
        message: format!("the statement is too complex: it may have at most {most} {what}; ask in parts"),
    }
}

/// One bracket, `case` or the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opened {
    Text,
    Bracket,
    Case,
}

#[derive(Debug)]
struct Level {
    opened: Opened,
    /// Operators since the last comma or clause: so deep can the expression be that is being read.
    operators: usize,
}

#[derive(Debug)]
struct Seen {
    levels: Vec<Level>,
    /// The operators of all levels but the last, and the levels.
    below: usize,
    /// The last token can end an expression, so that a word after it may begin a clause.
    ended: bool,
    tokens: usize,
    queries: usize,
    joins: usize,
    statements: usize,
    /// Brackets that are open.
    brackets: u32,
    /// How often the parser may look at what has been read.
    looks: usize,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            levels: vec![Level {
                opened: Opened::Text,
                operators: 0,
            }],
            below: 0,
            ended: false,
            tokens: 0,
            queries: 0,
            joins: 0,
            statements: 0,
            brackets: 0,
            looks: 0,
        }
    }
}

impl Seen {
    fn token(&mut self, token: &Token) -> Result<(), SqlError> {
        self.tokens += 1;
        if self.tokens > TOKENS {
            return Err(too_long(
                "it has more words and signs than that".into(),
                format!("{TOKENS} of them"),
            ));
        }
        let ended = std::mem::replace(&mut self.ended, false);
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => self.open(Opened::Bracket),
            Token::RParen | Token::RBracket | Token::RBrace => {
                self.close_bracket();
                self.ended = true;
            }
            Token::Comma => self.level().operators = 0,
            Token::SemiColon => self.next_statement()?,
            Token::Word(word) => self.word(word.keyword, ended)?,
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::DoubleQuotedString(_)
            | Token::Placeholder(_) => self.ended = true,
            _ => self.level().operators += 1,
        }
        let depth = self.below + self.levels.last().map_or(0, |level| level.operators);
        if depth > DEPTH {
            return Err(too_complex("operators that are one within the other", DEPTH));
        }
        if self.levels.len() > NESTED {
            return Err(too_complex("brackets that are one within the other", NESTED));
        }
        self.looks += 1 << self.brackets;
        if self.looks > LOOKS {
            return Err(SqlError::TooComplex {
                state: "54001",
                message: "the statement is too complex: too much stands within brackets that are one within the other; \
                          ask in parts, or name parts of it by `with`"
                    .into(),
            });
        }
        Ok(())
    }

    fn word(&mut self, keyword: Keyword, after_operand: bool) -> Result<(), SqlError> {
        match keyword {
            Keyword::NoKeyword | Keyword::NULL | Keyword::TRUE | Keyword::FALSE => self.ended = true,
            Keyword::CASE => self.open(Opened::Case),
            Keyword::END => {
                self.end();
                self.ended = true;
            }
            Keyword::SELECT | Keyword::VALUES | Keyword::TABLE => {
                self.queries += 1;
                if self.queries > QUERIES {
                    return Err(too_complex("queries", QUERIES));
                }
                self.clause(after_operand);
            }
            Keyword::JOIN => {
                self.joins += 1;
                if self.joins > JOINS {
                    return Err(too_complex("joins", JOINS));
                }
                self.clause(after_operand);
            }
            Keyword::FROM
            | Keyword::WHERE
            | Keyword::GROUP
            | Keyword::HAVING
            | Keyword::ORDER
            | Keyword::LIMIT
            | Keyword::WHEN
            | Keyword::THEN
            | Keyword::ELSE
            | Keyword::ON
            | Keyword::UNION
            | Keyword::EXCEPT
            | Keyword::INTERSECT => self.clause(after_operand),
            _ => self.level().operators += 1,
        }
        Ok(())
    }

    /// A new expression begins here, if this word is no operand: `1 + from + from` has columns of that name.
    fn clause(&mut self, after_operand: bool) {
        if after_operand {
            self.level().operators = 0;
        } else {
            self.level().operators += 1;
        }
    }

    fn level(&mut self) -> &mut Level {
        if self.levels.is_empty() {
            self.open(Opened::Text);
        }
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    fn open(&mut self, opened: Opened) {
        self.below += self.levels.last().map_or(0, |level| level.operators) + 1;
        self.brackets += u32::from(opened == Opened::Bracket);
        self.levels.push(Level { opened, operators: 0 });
    }

    /// Never the text itself.
    fn close(&mut self) {
        if self.levels.len() > 1 {
            let closed = self.levels.pop();
            self.brackets -= u32::from(closed.is_some_and(|level| level.opened == Opened::Bracket));
            let level = self.level();
            let operators = level.operators;
            level.operators += 1;
            self.below -= operators + 1;
        }
    }

    fn close_bracket(&mut self) {
        // A `case` that has no end was none, but a name.
        while self.last() == Opened::Case {
            self.close();
        }
        self.close();
    }

    fn end(&mut self) {
        if self.last() == Opened::Case {
            self.close();
        } else {
            self.level().operators += 1;
        }
    }

    fn last(&self) -> Opened {
        self.levels.last().map_or(Opened::Text, |level| level.opened)
    }

    fn next_statement(&mut self) -> Result<(), SqlError> {
        self.statements += 1;
        if self.statements > STATEMENTS {
            return Err(too_complex("statements in one text", STATEMENTS));
        }
        self.levels.truncate(1);
        self.below = 0;
        self.brackets = 0;
        self.level().operators = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(sql: &str) -> (&'static str, String) {
        let error = judge(sql).unwrap_err();
        (error.state(), error.to_string())
    }

    #[test]
    fn each_limit_is_named_in_the_refusal() {
        for (sql, state, named) in [
            (format!("select '{}'", "x".repeat(BYTES)), "54000", "262144 bytes"),
            (
                format!("select {}", "1,".repeat(TOKENS)),
                "54000",
                "12000 of them",
            ),
            (format!("select {}1", "1+".repeat(3000)), "54001", "600 operators"),
            (
                format!("select 1{}", "::int".repeat(3000)),
                "54001",
                "600 operators",
            ),
            (
                format!("select {} true", "not ".repeat(3000)),
                "54001",
                "600 operators",
            ),
            (
                format!("select {} 1", "- ".repeat(3000)),
                "54001",
                "600 operators",
            ),
            (
                format!("select a{}", "[1]".repeat(3000)),
                "54001",
                "600 operators",
            ),
            (format!("select a{}", ".b".repeat(3000)), "54001", "600 operators"),
            (
                format!("select {}1{}", "(".repeat(60), ")".repeat(60)),
                "54001",
                "16 brackets",
            ),
            (format!("select {}1", "array[".repeat(60)), "54001", "16 brackets"),
            (
                format!("select {}", "case when true then ".repeat(60)),
                "54001",
                "16 brackets",
            ),
            (
                format!("select 1{}", " union all select 1".repeat(5000)),
                "54001",
                "100 queries",
            ),
            (
                format!("select 1 from a{}", " join a on true".repeat(60)),
                "54001",
                "48 joins",
            ),
            (
                format!(
                    "select {}{}1{}",
                    "abs(".repeat(14),
                    "1,".repeat(5000),
                    ")".repeat(14)
                ),
                "54001",
                "too much stands within brackets",
            ),
            ("show a;".repeat(200), "54001", "100 statements"),
            (
                format!("select 1{}", " + from".repeat(3000)),
                "54001",
                "600 operators",
            ),
            (
                format!("select 1{}", " + end".repeat(3000)),
                "54001",
                "600 operators",
            ),
            (
                format!("select 1{}", " + offset".repeat(3000)),
                "54001",
                "600 operators",
            ),
            (
                format!("select 1 from a where {} true", "a = 1 and ".repeat(3000)),
                "54001",
                "600 operators",
            ),
        ] {
            let (told, message) = refused(&sql);
            assert_eq!(told, state, "{message}");
            assert!(message.contains(named), "{}: {message}", &sql[..40]);
        }
    }

    #[test]
    fn what_is_long_without_being_deep_passes() {
        for sql in [
            format!("select a from b where a in ({}'x')", "'x',".repeat(5000)),
            format!("select {}1", "a + 1, ".repeat(2500)),
            format!("select a from b where {} true", "a = 1 or ".repeat(290)),
            format!("select case {} end", "when a = 1 then 2 ".repeat(1200)),
            format!("select 1{}", " union all select a + 1 from b".repeat(99)),
        ] {
            judge(&sql).unwrap();
        }
    }

    #[test]
    fn brackets_that_close_what_was_never_opened_are_the_parsers_to_refuse() {
        for sql in [
            "select )",
            "]}) end end",
            "case ) end (",
            ";;;",
            "",
            "select 1 end case",
        ] {
            judge(sql).unwrap();
        }
    }
}
