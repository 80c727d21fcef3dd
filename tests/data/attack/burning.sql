-- Statements that end in time for whoever asks, and whose thread goes on computing for seconds afterwards (minutes in an
-- unoptimised build): each is one loop of a library that nobody can leave, or a plan that takes long to improve, and its bound is
-- too wide. They harm nobody's answers, and no test asks them; one that has been bounded goes into statements.sql.
select {298*'a'||}'b'
select length(concat({500*repeat('x', 1000000),}''))
select length(a||a||a||a) from (select a||a||a||a as a from (select a||a||a||a as a from (select a||a||a||a as a from (select a||a||a||a as a from (select a||a||a||a as a from (select a||a||a||a as a from (select a||a||a||a as a from (select repeat('x', 1000) as a) t) t) t) t) t) t) t) t
select translate(repeat('a', 1000000), repeat('ab', 500000), repeat('cd', 500000))
select array_has_any(range(1, 1000000), range(2000000, 3000000))
select array_length(array_distinct(range(1, 1000000)))
select encode(repeat('x', 10000000)::bytea, 'hex')
