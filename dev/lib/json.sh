# JSON with what every machine has. Texts stay as JSON writes them, so that none of them can play with the terminal.
# shellcheck shell=bash

# flat: a line per value of the JSON on the input: its path, a tab, the value. `data.letters.0.id	"0199…"`.
flat() {
    LC_ALL=C grep -oE '"([^"\\]|\\.)*"|[][{}:,]|[^][{}:,"[:space:]]+' | LC_ALL=C awk '
        function path(    i, text) {
            for (i = 1; i <= depth; i++) text = text (i > 1 ? "." : "") at[i]
            return text
        }
        /^[[{]$/ { depth++; list[depth] = $0 == "["; at[depth] = 0; naming = !list[depth]; next }
        /^[]}]$/ { depth--; naming = 0; next }
        /^,$/ { if (list[depth]) at[depth]++; else naming = 1; next }
        /^:$/ { naming = 0; next }
        naming { at[depth] = substr($0, 2, length($0) - 2); next }
        { print path() "\t" $0 }
    '
}

# bare: values without the quotes around a text.
bare() { sed 's/^"\(.*\)"$/\1/'; }

# field PATH: one value, bare.
field() { flat | awk -F '\t' -v path="$1" '$1 == path { print $2 }' | bare; }

# rows PATH NAME…: of each object in the list at PATH the values of these names, bare, with tabs between them.
rows() {
    local path=$1
    shift
    flat | awk -F '\t' -v path="$path." -v names="$*" '
        function row(    i) {
            for (i = 1; i <= count; i++) printf "%s%s", value[wanted[i]], i < count ? "\t" : "\n"
        }
        BEGIN { count = split(names, wanted, " ") }
        index($1, path) != 1 { next }
        {
            split(substr($1, length(path) + 1), part, ".")
            if (some++ && part[1] != last) { row(); split("", value) }
            last = part[1]
            value[part[2]] = $2 ~ /^"/ ? substr($2, 2, length($2) - 2) : $2
        }
        END { if (some) row() }
    '
}

# text STRING: as JSON.
text() {
    local text=$1
    text=${text//\\/\\\\} text=${text//\"/\\\"} text=${text//$'\n'/\\n} text=${text//$'\t'/\\t} text=${text//$'\r'/\\r}
    printf '"%s"' "$text"
}
