# Runs `live` with the arguments, and the tests that failed once more, each alone. Sets `code`
# where one failed again, or the program ended otherwise than by its tests.
{
    live "$@"
    echo $? >/tmp/status
} 2>&1 | tee /tmp/said
# libtest exits so where tests failed.
case $(cat /tmp/status) in
0) ;;
101)
    failed=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' /tmp/said)
    if [ -z "$failed" ] || [ "$(echo "$failed" | wc -l)" -gt "$most_again" ]; then
        code=1
    else
        for test in $failed; do
            echo "guest: once more: $test"
            live --exact "$test" || code=1
        done
    fi
    ;;
*) code=1 ;;
esac
