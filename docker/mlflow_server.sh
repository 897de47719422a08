#!/bin/sh
# MLflow's server of the compose file: runs and their files below $MLFLOW_FOLDER, on port 5000. Further words go to `mlflow server`.
#   MLFLOW_PASSWORD  what it asks for, of the user `admin`; without one it serves whoever reaches it
#   MLFLOW_BIND      the address of the host that it is published to; beyond this machine it starts with a password only
#   MLFLOW_HOSTS     further names that it is called by, with their ports: server.example.org:5000,10.0.0.5:5000
set -eu
folder=${MLFLOW_FOLDER:-/output}
bind=${MLFLOW_BIND:-127.0.0.1}
password=${MLFLOW_PASSWORD:-}
hosts="mlflow:5000,localhost:5000,localhost:${MLFLOW_PORT:-5000},127.0.0.1:${MLFLOW_PORT:-5000}${MLFLOW_HOSTS:+,$MLFLOW_HOSTS}"

if [ -n "$password" ]; then
    if [ "${#password}" -lt 12 ]; then
        echo "mlflow_server.sh: MLFLOW_PASSWORD has ${#password} characters, MLflow asks for 12 at least; give a longer one" >&2
        exit 2
    fi
    python3 -c 'import flask_wtf' 2> /dev/null || {
        echo "mlflow_server.sh: MLflow asks for a password only where Flask-WTF is installed: pip install 'monai_advdef[server]'" >&2
        exit 2
    }
    # The users live as long as the server: the password is always the one that was given last, not the first one ever.
    users=$(mktemp -d)
    printf '[mlflow]\ndefault_permission = NO_PERMISSIONS\nauth_cache_ttl_seconds = 300\ndatabase_uri = sqlite:///%s/users.db\n' "$users" > "$users/auth.ini"
    export MLFLOW_AUTH_CONFIG_PATH="$users/auth.ini" MLFLOW_AUTH_ADMIN_USERNAME=admin MLFLOW_AUTH_ADMIN_PASSWORD="$password"
    MLFLOW_FLASK_SERVER_SECRET_KEY=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
    export MLFLOW_FLASK_SERVER_SECRET_KEY
    set -- --app-name basic-auth "$@"
else
    case $bind in
        127.* | localhost | ::1 | '[::1]') ;;
        *)
            echo "mlflow_server.sh: MLFLOW_BIND is $bind, where others reach the server, and MLFLOW_PASSWORD is not set;" \
                "set a password of 12 characters at least, or leave MLFLOW_BIND at 127.0.0.1" >&2
            exit 2
            ;;
    esac
fi
unset MLFLOW_PASSWORD
mkdir -p "$folder/artifacts"
exec mlflow server --backend-store-uri "sqlite:///$folder/mlflow.db" --artifacts-destination "$folder/artifacts" --serve-artifacts \
    --host 0.0.0.0 --port 5000 --workers 1 --allowed-hosts "$hosts" "$@"
