-- Statements that once ended the process, blocked it, or took its memory; one a line, each to end in an answer or an error
-- within its time, while others are served. `{n*text}` is `text`, n times; see README.md.

-- deep: the parser, the planner or the release of a plan calls itself for each
select {3000*1+}1
select {598*1+}1
select 1{3000*::int}
select 1{290*::int}
select {40*not }true
select {3000*not }true
select {3000*- }1
select a{20000*[1]} from (select array[1] as a) x
select {60*(}1{60*)}
select {14*(}1{14*)}
select {30000*(}1
select {14*case when true then }1{14* end}
select {40*case }
select {14*array[}1{14*]}
select {40*(select }1{40*)}
select 1 from {40*(select 1 from }as_of() a{40*) a}
select 1 where {3000*true and }true
select 1 where {290*true and }true
select 1 where {290*1 = 2 or }true
select 1 where 1 in ({5000*1,}1)
select 1 where 1 in ({5000*1+1,}1)
select {14*coalesce(1,}1{14*)}
select {40*coalesce(1,}1{40*)}
select {14*abs(}1{14*)}
select {40*abs(}1{40*)}
select {5000*'a'||}'b'
select cast(1 as {50*array<}int{50*>})
select 1 {3000*is null }
select {900*interval }'1'

-- wide: joins, unions, columns, sets
select 1 from as_of() a{1000*, as_of()}
select count(*) from as_of() a{40* join as_of() on true}
select count(*) from as_of() a{40* natural join as_of()}
select 1{5000* union all select 1}
select 1{99* union all select 1}
select 1{99* union select 1}
select 1{99* intersect select 1}
values {5000*(1),}(1)
select {4000*1,}1
select {2000*(select 1),}1
{300*select 1;}
{99*select 1;}
select count(*) from (values (1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20)) t(a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,u) group by cube (a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,u)
select count(*) from (values (1,2,3,4,5,6,7)) t(a,b,c,d,e,f,g) group by cube (a,b,c,d,e,f,g)

-- grow while they are planned
with a0 as (select 1 from as_of()), a1 as (select 1 from a0, a0 x), a2 as (select 1 from a1, a1 x), a3 as (select 1 from a2, a2 x), a4 as (select 1 from a3, a3 x), a5 as (select 1 from a4, a4 x), a6 as (select 1 from a5, a5 x), a7 as (select 1 from a6, a6 x) select * from a7
select * from {40*(select a + a as a from }(select epoch as a from as_of()) t{40*) t} where a > 1
select {40*(select a + a as a from }(select 1 as a) t{40*) t}

-- work without end, in one loop of a library
select count(*) from generate_series(1, 100000) a join generate_series(1, 1000000) b on a.value < b.value and a.value > 100001
select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b
select count(*) from generate_series(1, 1000000) a, generate_series(1, 1000000) b where a.value % 7 + b.value % 11 = 100
select max(a.value + b.value) from generate_series(1, 100000) a left join generate_series(1, 1000000) b on a.value + b.value < 0
select count(*) from generate_series(1, 1000000) a where exists (select 1 from generate_series(1, 1000000) b where b.value > a.value + 2000000)
select count(*) from generate_series(1, 1000000) a where not exists (select 1 from generate_series(1, 1000000) b where b.value % 2 = 3)
select count(*) from (select value % 3 as n from generate_series(1, 1000000)) a join (select value % 3 as n from generate_series(1, 1000000)) b on a.n = b.n where a.n + b.n > 100
select count(*) from generate_series(1, 9000000000000000000)
select count(*) from generate_series(1, 9000000000000000000) where value < 0
select sum(value) over (order by value rows between 1000000 preceding and current row) from generate_series(1, 900000000)
select sum(value) over () from generate_series(1, 900000000)
select array_agg(value) over (order by value) from generate_series(1, 1000000)
select string_agg(value::text, ',') over (order by value) from generate_series(1, 1000000)
select median(value) over (order by value) from generate_series(1, 1000000)
select count(distinct value) over (order by value) from generate_series(1, 1000000)
select value from generate_series(1, 90000000) order by value desc
select distinct value from generate_series(1, 900000000)
select count(*) from generate_series(1, 900000000) group by value
select array_agg(value) from generate_series(1, 900000000)
select string_agg(repeat('x', 1000), '') from generate_series(1, 900000000)
select (select count(*) from generate_series(1, 900000000) b where b.value > a.value) from generate_series(1, 1000) a

-- memory and work within one function
select levenshtein(repeat('a', 2000000), repeat('b', 2000000))
select sum(levenshtein(repeat('a', 400), repeat('b', 400 + (value % 7)::int))) from generate_series(1, 1000000)
select length(replace(replace(replace(repeat('a', 1000), 'a', repeat('a', 1000)), 'a', repeat('a', 1000)), 'a', repeat('a', 1000)))
select repeat('x', 2000000000)
select lpad('x', 2000000000, 'y')
select rpad('x', 2000000000, 'y')
select array_repeat(1, 2000000000)
select array_resize(make_array(1), 2000000000, 1)
select range(1, 9000000000)
select generate_series(1, 9000000000)
select unnest(generate_series(1, 9000000000))
select length(a || a || a || a || a || a || a || a) from (select repeat('x', 3000000) as a) t
select regexp_replace(repeat('a', 1000000), 'a', repeat('b', 1000000), 'g')
select regexp_like(repeat('a', 100000), '((a{100}){100}){100}')
select repeat('a', 1000000) ~ '(a{1,500}){1,500}b'
select repeat('a', 100000) ~ repeat('(a?)', 1000)
select repeat('a', 1000000) like repeat('%a', 2000)
select count(*) from generate_series(1, 100000) where value::text ~ repeat('\w', (value % 900)::int)
select btrim(repeat('a', 1000000), repeat('b', 1000000))
select to_char(timestamp '2026-11-30 08:00:00', repeat('%A %B ', 100000))
select array_to_string(range(1, 1000000), repeat(',', 10000))

-- panics of libraries
select row(0.1::decimal(38,30))
select list_push_front(99999999999999999999999999999999999999::decimal(38,0), make_array())
select chr(-1)
select substr('abc', -9223372036854775808, 9223372036854775807)
select left('abc', -9223372036854775808)
select date_trunc('day', timestamp '262142-12-31 23:59:59')
select (-9223372036854775808)::bigint / -1
select abs((-9223372036854775808)::bigint)
select to_timestamp(9223372036854775807)
select factorial(9223372036854775807)
select power(10, 400)::bigint
select interval '2147483647 months' * 2
select timestamp '2026-11-30' + interval '2147483647 months'
select '{}'::int[]
select round(99999999999999999999999999999999999999::decimal(38,0), -39)
select {298*'a'||}'b'
select length(concat({500*repeat('x', 1000000),}''))
select length(a||a||a||a) from (select a||a||a||a as a from (select a||a||a||a as a from (select a||a||a||a as a from (select a||a||a||a as a from (select a||a||a||a as a from (select a||a||a||a as a from (select a||a||a||a as a from (select repeat('x', 1000) as a) t) t) t) t) t) t) t) t
select translate(repeat('a', 1000000), repeat('ab', 500000), repeat('cd', 500000))
select array_has_any(range(1, 1000000), range(2000000, 3000000))
select array_length(array_distinct(range(1, 1000000)))
select encode(repeat('x', 10000000)::bytea, 'hex')
