# Sidekiq's worker: `sidekiq -r ./worker.rb -c 64`. Each thread keeps one connection open.
require "json"
require "net/http"
require "sidekiq"

Sidekiq.configure_server { |config| config.redis = { url: ENV.fetch("BENCH_REDIS") } }
Sidekiq.logger.level = Logger::WARN
# Debian pairs a Sidekiq and a client of Redis that warn of each other at every command.
Redis.silence_deprecations = true
TARGET = URI(ENV.fetch("BENCH_URL"))

class Push
  include Sidekiq::Worker

  def perform(message)
    name, body = message.key?("payload") ? message.values_at("provider", "payload") : ["hook", message]
    response = connection.post("/#{name}", JSON.generate(body), "Content-Type" => "application/json")
    raise "status #{response.code}" unless response.is_a?(Net::HTTPSuccess)
  end

  private

  def connection
    Thread.current[:connection] ||= Net::HTTP.new(TARGET.host, TARGET.port).tap do |http|
      http.keep_alive_timeout = 60
      http.start
    end
  end
end
