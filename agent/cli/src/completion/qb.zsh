#compdef qb
# zsh completion of qb: every Tab asks `qb __complete` for the names that the verb can take.
_qb() {
    local -a found
    local name text
    while IFS=$'\t' read -r name text; do
        found+=("${name//:/\\:}${text:+:$text}")
    done < <("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( ${#found} )) && _describe 'qb' found || _files
}
if [ "$funcstack[1]" = "_qb" ]; then _qb "$@"; else compdef _qb qb; fi
