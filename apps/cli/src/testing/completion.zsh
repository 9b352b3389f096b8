# zsh -f completion.zsh RESULT FUNCTIONS LINE: what a real zsh on a terminal of its own offers for LINE at Tab, in RESULT.
zmodload zsh/zpty
result=$1 folder=$2 line=$3
zpty shell zsh -f -i
zpty -w shell "PROMPT= RPROMPT=; fpath=($folder \$fpath); autoload -Uz compinit; compinit -u -D"
zpty -w shell 'compadd() { if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return $?; fi; local -a hits; builtin compadd -A hits "$@"; (( $#hits )) && print -l -- $hits >>'$result'; builtin compadd "$@" }'
zpty -w shell 'complete-word() { unset "compstate[vared]"; _main_complete "$@"; print END >>'$result'; compstate[insert]=; compstate[list]= }'
zpty -w shell 'zle -C complete-word complete-word complete-word; bindkey "^I" complete-word; print BEGIN >>'$result
wait_for() { until grep -q "^$1$" $result 2>/dev/null; do sleep 0.05; done }
wait_for BEGIN
zpty -n -w shell "$line"$'\t'
wait_for END
zpty -d shell
