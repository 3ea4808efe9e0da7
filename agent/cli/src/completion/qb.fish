# fish completion of qb: every Tab asks `qb __complete` for the names that the verb can take.
function __qb_complete
    set -l words (commandline -opc) (commandline -ct)
    command $words[1] __complete -- $words[2..-1] 2>/dev/null
end
complete -c qb -a '(__qb_complete)'
