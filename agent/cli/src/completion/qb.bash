# bash completion of qb: every Tab asks `qb __complete` for the names that the verb can take.
_qb() {
    local line=${COMP_LINE:0:COMP_POINT} word rest
    local -a words
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[${#words[@]}-1]}
    # bash cuts words at : and = and puts back only what comes after the last of them.
    rest=${word%"${word##*[:=]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        COMPREPLY+=("${word#"$rest"}")
    done < <("${words[0]}" __complete -- "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _qb qb
