"""The functions a query may call: pure ones. What is not listed is refused, so a function that a later DuckDB adds is
refused until somebody has looked at it.

Left out on purpose: whatever reads files, settings, variables, the catalogue or the session, runs SQL from a text,
sleeps, logs, or has an effect (`read_csv`, `getenv`, `current_setting`, `query`, `nextval`, `setseed`, ...).
"""

from __future__ import annotations

from sqlglot import exp

_AGGREGATE = """
any_value approx_count_distinct approx_quantile approx_top_k arbitrary arg_max arg_max_null arg_min arg_min_null argmax
argmin array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count count_if count_star countif covar_pop
covar_samp entropy favg first fsum geomean geometric_mean group_concat grouping grouping_id histogram kahan_sum
kurtosis kurtosis_pop last list listagg mad max max_by mean median min min_by mode percentile_cont percentile_disc
product quantile quantile_cont quantile_disc regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx
regr_sxy regr_syy reservoir_quantile sem skewness stddev stddev_pop stddev_samp string_agg sum sumkahan var_pop
var_samp variance wavg weighted_avg
"""

_WINDOW = """
cume_dist dense_rank fill first_value lag last_value lead nth_value ntile percent_rank rank rank_dense row_number
"""

_NUMBER = """
abs acos acosh add asin asinh atan atan2 atanh bin bit_count cbrt ceil ceiling cos cosh cot degrees divide even exp
factorial fdiv floor fmod gamma gcd greatest greatest_common_divisor hex isfinite isinf isnan lcm least
least_common_multiple lgamma ln log log10 log2 mod multiply nextafter pi pow power radians random round round_even
roundbankers sign signbit sin sinh sqrt subtract tan tanh to_base to_binary to_hex trunc xor
"""

_TEXT = """
array_extract ascii bar base64 bit_length char_length character_length chr concat concat_ws contains
damerau_levenshtein decode editdist3 encode ends_with format format_bytes formatreadabledecimalsize
formatreadablesize from_base64 from_binary from_hex hamming hash instr jaccard jaro_similarity jaro_winkler_similarity
lcase left left_grapheme len length length_grapheme levenshtein like_escape lower lpad ltrim md5 md5_number mismatches
nfc_normalize octet_length ord overlay position prefix printf regexp_escape regexp_extract regexp_extract_all
regexp_full_match regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table repeat replace reverse
right right_grapheme rpad rtrim sha1 sha256 split split_part starts_with str_split str_split_regex
string_split string_split_regex string_to_array strip_accents strlen strpos substr substring substring_grapheme suffix
to_base64 translate trim ucase unbin unhex unicode upper url_decode url_encode
"""

_TIME = """
age ago century current_date current_localtime current_localtimestamp current_time current_timestamp date_add date_diff
date_part date_sub date_trunc datediff datepart datesub datetrunc day dayname dayofmonth dayofweek dayofyear
days_in_month decade epoch epoch_ms epoch_ns epoch_us era extract get_current_time get_current_timestamp hour isodow
isoyear julian last_day localtime localtimestamp make_date make_time make_timestamp make_timestamp_ms
make_timestamp_ns make_timestamptz microsecond millennium millisecond minute month monthname nanosecond
normalized_interval now quarter second strftime strptime time_bucket timezone timezone_hour timezone_minute to_centuries
to_days to_decades to_hours to_microseconds to_millennia to_milliseconds to_minutes to_months to_quarters to_seconds
to_timestamp to_weeks to_years today transaction_timestamp try_strptime week weekday weekofyear year yearweek
"""

_NESTED = """
aggregate array array_aggr array_aggregate array_append array_apply array_cat array_concat array_contains
array_distinct array_filter array_has array_has_all array_has_any array_indexof array_intersect array_length
array_pop_back array_pop_front array_position array_prepend array_push_back array_push_front array_reduce array_resize
array_reverse array_reverse_sort array_select array_slice array_sort array_to_json array_to_string array_transform
array_unique array_value array_where array_zip cardinality element_at filter flatten from_json generate_series
generate_subscripts grade_up json_array json_array_length json_contains json_exists json_extract json_extract_path
json_extract_path_text json_extract_string json_group_array json_group_object json_keys json_merge_patch json_object
json_quote json_structure json_type json_valid json_value list_aggr list_aggregate list_any_value list_append
list_apply list_avg list_cat list_concat list_contains list_count list_distinct list_element list_extract list_filter
list_first list_has list_has_all list_has_any list_indexof list_intersect list_last list_max list_median list_min
list_mode list_pack list_position list_prepend list_product list_reduce list_resize list_reverse list_reverse_sort
list_select list_slice list_sort list_stddev_pop list_stddev_samp list_sum list_transform list_unique list_value
list_var_pop list_var_samp list_where list_zip map map_concat map_contains map_entries map_extract map_extract_value
map_from_entries map_keys map_values range reduce row row_to_json struct struct_concat struct_extract struct_extract_at
struct_insert struct_keys struct_pack struct_values to_json unnest
"""

_LOGIC = """
case cast coalesce constant_or_null if ifnull nullif try try_cast typeof
"""

FUNCTIONS = frozenset(
    f"{_AGGREGATE} {_WINDOW} {_NUMBER} {_TEXT} {_TIME} {_NESTED} {_LOGIC}".split(),
)
"""Names in lower case, as DuckDB spells them."""

_SPELLED_OTHERWISE: tuple[type[exp.Expr], ...] = (
    # sqlglot's own names for functions above: bit_and, date_trunc, epoch, strpos, list_max, lpad, sha256, unnest, ...
    exp.ArrayMax,
    exp.ArrayMin,
    exp.ArrayOverlaps,
    exp.BitwiseAndAgg,
    exp.BitwiseOrAgg,
    exp.BitwiseXorAgg,
    exp.DateBin,
    exp.DateFromParts,
    exp.Explode,
    exp.JSONArray,
    exp.JSONExtract,
    exp.JSONExtractScalar,
    exp.JSONObject,
    exp.JarowinklerSimilarity,
    exp.Pad,
    exp.RegexpLike,
    exp.RegexpSplit,
    exp.SHA2,
    exp.StrPosition,
    exp.StrToTime,
    exp.TimeFromParts,
    exp.TimeToStr,
    exp.TimeToUnix,
    exp.TimestampFromParts,
    exp.TimestampTrunc,
    exp.ToMap,
    exp.Transform,
    exp.UnixToTime,
)

_GRAMMAR: tuple[type[exp.Expr], ...] = (
    # Functions to sqlglot, grammar to DuckDB.
    exp.And,
    exp.Array,
    exp.Case,
    exp.Cast,
    exp.Collate,
    exp.Exists,
    exp.If,
    exp.Or,
    exp.Pow,
    exp.TryCast,
    exp.Xor,
)

_TYPED: frozenset[type[exp.Expr]] = frozenset(_SPELLED_OTHERWISE + _GRAMMAR)


def function_name(node: exp.Func) -> str:
    """Give the name of the function that `node` calls, in lower case."""
    return str(node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()


def is_pure(node: exp.Func) -> bool:
    """Tell whether a query may call the function of `node`."""
    if isinstance(node, exp.Anonymous):
        return function_name(node) in FUNCTIONS
    return type(node) in _TYPED or any(name.lower() in FUNCTIONS for name in node.sql_names())
